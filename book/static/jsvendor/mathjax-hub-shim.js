// The widget manager typesets its labels through the interface of MathJax 2; the book carries MathJax 3.
// Deferred scripts have run by DOMContentLoaded, and the widgets are drawn on load: in between is the moment.
document.addEventListener("DOMContentLoaded", function () {
  if (!window.MathJax) return; // a page without formulas
  window.MathJax.Hub = {
    Queue: function () {
      Array.prototype.forEach.call(arguments, function (job) {
        if (!Array.isArray(job) || job[0] !== "Typeset" || !window.MathJax.startup) return;
        window.MathJax.startup.promise.then(function () {
          return window.MathJax.typesetPromise([job[2] || document.body]);
        });
      });
    },
  };
});
