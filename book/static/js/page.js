// No table and no formula is cut at any width: a table that does not fit, smaller either, or that breaks its sentences
// after every other word (on a phone, or as findings of two worlds), becomes a list of cards, one for each row, whose
// cells carry the headings of their columns; a formula that does not fit becomes smaller, and scrolls where it would be
// too small to read. Figures and code that do not fit scroll.
(() => {
  const SMALLEST = 13; // of a formula, in pixels
  const SENTENCE = 60; // letters
  const PHONE = 640, LINES = 4; // below this width a row of more lines than these is a card

  function label(table) {
    const tops = [...table.querySelectorAll("thead tr:last-child > *")], heads = tops.map((head) => head.textContent.trim());
    const rows = [...table.querySelectorAll("tbody tr")].filter((row) => row.cells.length === heads.length);
    // A heading stands over its numbers: on the right, as they do.
    tops.forEach((head, place) => {
      if (rows.length && rows.every((row) => row.cells[place].classList.contains("number"))) head.classList.add("number");
    });
    table.querySelectorAll("thead th:not([scope])").forEach((head) => { head.scope = "col"; });
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, place) => {
        if (row.cells.length === heads.length && !cell.dataset.label) cell.dataset.label = heads[place];
        if (cell.tagName === "TH" && !cell.scope) cell.scope = "row";
      });
    }
    return heads.length > 1;
  }

  // A line does not end within an interval or a product, before a unit, or behind the mark of a verdict. An interval of
  // powers of ten is too long for that: its line may end behind the comma.
  const JOINED = /\[[−\d][^[\]]{1,48}\](?: %)?| × (?=\d)|\d (?:%|Ω|µS|µA|mV|s|min|h)(?![\wµ])|[✓✗] (?=\w)|^\? (?=\w)/g;
  function join(part) {
    const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      const joined = text.data.replace(JOINED, (found) =>
        found.replaceAll(found.includes("×") ? /(?<!,) /g : " ", "\u00a0"));
      if (joined !== text.data && !text.parentElement.closest("code, pre")) text.data = joined;
    }
  }

  // An option of a command stays in one piece, its hyphens with its name.
  function hold(code) {
    const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT), found = [];
    for (let text = walker.nextNode(); text; text = walker.nextNode()) found.push(text);
    for (const text of found) {
      const parts = text.data.split(/((?<![^\s])--?[a-zA-Z][\w-]*)/);
      if (parts.length < 3) continue;
      text.replaceWith(...parts.map((part, place) =>
        place % 2 ? Object.assign(document.createElement("span"), { className: "option", textContent: part }) : part));
    }
  }

  // As cards a table is no table for the browser any more: it is told that it still is one.
  const ROLES = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };
  function stack(table, on) {
    table.classList.toggle("stacked", on);
    // A sentence has the width of its card.
    for (const cell of table.querySelectorAll("tbody :is(th, td)")) {
      cell.classList.toggle("sentence", on && cell.textContent.length > SENTENCE);
    }
    for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, td, th")]) {
      const head = part.scope === "row" ? "rowheader" : "columnheader";
      if (on) part.setAttribute("role", ROLES[part.localName] || head);
      else part.removeAttribute("role");
    }
  }

  function broken(table) {
    const { lineHeight, fontSize } = getComputedStyle(table);
    const line = parseFloat(lineHeight) || 1.15 * parseFloat(fontSize);
    return [...table.querySelectorAll("tbody tr")].some((row) => row.offsetHeight > (LINES + 0.9) * line);
  }

  function fit(table) {
    const box = table.parentElement;
    if (!box.clientWidth) return;
    if (table.classList.contains("stacked")) stack(table, false);
    table.classList.remove("tight");
    const room = box.getBoundingClientRect().width, phone = room < PHONE;
    const over = () =>
      Math.max(table.scrollWidth, table.getBoundingClientRect().width) > room + 1 || box.scrollWidth > box.clientWidth + 1;
    if (!phone && over()) table.classList.add("tight");
    if (over() || ((phone || table.classList.contains("findings")) && broken(table))) {
      table.classList.remove("tight");
      stack(table, true);
    }
  }

  // Runs when the width of the box has changed, and when a folded part is opened.
  function follow(box, change) {
    let width = -1;
    new ResizeObserver(() => {
      if (box.clientWidth === width) return;
      width = box.clientWidth;
      requestAnimationFrame(change);
    }).observe(box);
  }

  function shrink(formula) {
    const box = formula.parentElement;
    // MathJax has given it the size of the text around it.
    formula.dataset.size ??= formula.style.fontSize;
    formula.style.fontSize = formula.dataset.size;
    formula.removeAttribute("tabindex");
    const own = parseFloat(getComputedStyle(formula).fontSize);
    const over = () => Math.max(formula.scrollWidth / formula.clientWidth, box.scrollWidth / box.clientWidth);
    for (let size = 1, turn = 0; turn < 4 && over() > 1.002; turn += 1) {
      size = Math.max(SMALLEST / own, size / over() - 0.005);
      formula.style.fontSize = `${own * size}px`;
    }
    if (over() > 1.002) {
      formula.tabIndex = 0;
      formula.setAttribute("role", "group");
      formula.setAttribute("aria-label", "A formula wider than the page; it scrolls");
    }
  }

  // What the theme leaves without a name for a screen reader, and a list with what may not be in one.
  function name() {
    for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");
    for (const summary of document.querySelectorAll("summary:not([aria-label])")) {
      const of = summary.closest("li") && summary.closest("li").querySelector("a");
      if (!summary.textContent.trim() && of) summary.setAttribute("aria-label", `Pages under ${of.textContent.trim()}`);
    }
  }

  // Opened from the file system a page may not read another: the search then lists pages without their text.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  }

  function begin() {
    name();
    for (const prose of document.querySelectorAll("article :is(p, li, dd, figcaption):not(:has(p, li, pre, table, script))")) {
      join(prose);
    }
    for (const table of document.querySelectorAll("article table")) {
      join(table);
      if (label(table)) follow(table.parentElement, () => fit(table));
    }
    for (const image of document.querySelectorAll("figure.drawn img")) {
      const [, least] = image.className.match(/\bleast-(\d+)/) || [];
      if (least) image.style.setProperty("--narrowest", `${least}px`);
    }
    document.querySelectorAll("article :is(.highlight-bash, .highlight-sh, .ways) pre").forEach(hold);
    // The picture of a report scrolls alone, its tables fit.
    for (const image of document.querySelectorAll("article .text_html > img")) {
      const frame = Object.assign(document.createElement("div"), { className: "report-picture" });
      image.replaceWith(frame);
      frame.append(image);
    }
    // What scrolls sideways can be reached by keyboard: code, and on a telephone figures.
    for (const box of document.querySelectorAll("article :is(pre, figure.drawn, .report-picture)")) {
      follow(box, () => {
        const over = box.scrollWidth > box.clientWidth;
        box.classList.toggle("scrolls", over);
        if (over) box.tabIndex = 0;
        else box.removeAttribute("tabindex");
      });
    }
    const drawn = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    if (drawn) {
      drawn.then(() => {
        for (const formula of document.querySelectorAll("article mjx-container[display=true]"))
          follow(formula.parentElement, () => shrink(formula));
      });
    }
  }
  if (document.readyState === "complete") begin();
  else window.addEventListener("load", begin);
})();
