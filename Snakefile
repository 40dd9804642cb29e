# From notebooks to the book: every page of a profile is one job, the strict build is the last.
#
#   make book                                        the usual way
#   snakemake --cores 8 --config profile=mine        the same by hand, with pages of one's own (profiles/mine.yaml)
#
# A page depends on its notebook, its parameters, the pages whose stored results it reuses, the evidence of its study
# and exactly those files of lib and paper that its imports reach. Jobs write under a temporary name and rename, so a
# build that was killed leaves no half page, and the store keeps what a killed study had finished.
#
# Jobs run in forks of one process that has imported everything once (paper/tools/warm.py). This file itself imports
# nothing heavy: a build that has nothing to do is over in seconds.
import fcntl
import os
import shlex
from pathlib import Path

from lib.checks import ParameterError
from paper.tools import caches, profiles, sources, typeset, version, warm


def relative(paths):
    return [str(path.relative_to(sources.ROOT)) for path in paths]


def needed(page):
    # Pages share cells: what one study has measured may stand in another's file.
    evidence = [*sorted(Path("results/evidence").glob("*.csv")), *Path("profiles").glob("evidence.yaml")]
    evidence += Path("results").glob("exercises.json")
    return [*relative([page.source, *sources.reached(page.source)]), *map(str, evidence)]


try:
    # All that can be refused without running anything is refused here: an unknown parameter, a circle of pages, a
    # table of contents that names what is not there, and a file or cell that is no Python. Within a rule Snakemake
    # would take the failure for a page that needs nothing.
    BOOK = profiles.profile(Path("profiles") / f"{config.get('profile', 'quick')}.yaml")
    profiles.evidence()
    profiles.read_yaml(Path("_config.yml"))
    typeset.contents(sources.ROOT, BOOK)
    NEEDED = {name: needed(page) for name, page in BOOK.items()}
    LIBRARY = sources.modules()
    for module in LIBRARY:
        sources.parse(module)
except ParameterError as refused:
    raise SystemExit(str(refused)) from None

STAMP = "_build/typeset"
LOGS = Path("_build/logs")

if workflow.is_main_process:
    # Snakemake's own lock outlives a killed build; the kernel drops this one with the process.
    Path(".snakemake").mkdir(exist_ok=True)
    LOCK = open(".snakemake/build.lock", "w")
    try:
        fcntl.flock(LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("Another build is running in this folder.") from None
    caches.use_own()
    os.environ["BOOK_BUILD"] = str(os.getpid())
    for log in LOGS.glob("*.log"):
        log.unlink()
    if not Path("_build/html/index.html").is_file():
        Path(STAMP).unlink(missing_ok=True)
    for name in BOOK:
        warm.backdate(name, f"book/runs/{name}.ipynb")
    warm.backdate("book", STAMP)

RUNS = [f"book/runs/{name}.ipynb" for name in BOOK]
TEXT = sorted(
    str(path)
    for pattern in ("book/*.md", "book/*.bib", "book/static/**/*")
    for path in Path(".").glob(pattern)
    if path.is_file()
)


def arguments(wildcards):
    page = BOOK[wildcards.page]
    words = [] if page.title is None else [f"--title={page.title}"]
    for name, value in page.parameters.items():
        words += ["-p", name, profiles.text(value)]
    return shlex.join(words)


wildcard_constraints:
    page="|".join(BOOK),


onerror:
    failed = sorted(log.stem for log in LOGS.glob("*.log"))
    if failed:
        print(f"Pages that failed: {', '.join(failed)}.")
    else:
        print("The book could not be typeset." if all(map(os.path.isfile, RUNS)) else "The build was interrupted.")
    if Path("_build/html/index.html").is_file():
        print("_build/html holds the book as it was before.")


rule all:
    input:
        STAMP,


rule page:
    input:
        lambda wildcards: NEEDED[wildcards.page],
        lambda wildcards: [f"book/runs/{name}.ipynb" for name in BOOK[wildcards.page].after],
    output:
        "book/runs/{page}.ipynb",
    params:
        notebook=lambda wildcards: f"notebooks/{BOOK[wildcards.page].notebook}.ipynb",
        arguments=arguments,
        log=lambda wildcards: LOGS / f"{wildcards.page}.log",
    threads: lambda wildcards: BOOK[wildcards.page].threads or workflow.cores
    shell:
        "OMP_NUM_THREADS={threads} python -m paper.tools.warm {wildcards.page} pages run {params.notebook} {output}"
        " --log {params.log} {params.arguments}"


# Pages that the profile marks so start first, so that at the end no core waits for one of them.
LONGEST = [name for name, page in BOOK.items() if page.first]


use rule page as longest_page with:
    wildcard_constraints:
        page="|".join(LONGEST) or "none",
    priority: 1


ruleorder: longest_page > page


# The stamp stands for the book: Snakemake removes what a rule makes before it runs, and a book must outlive the
# failure of the next one.
rule book:
    input:
        runs=RUNS,
        text=TEXT,
        settings=[name for name in ("_config.yml", "_toc.yml", "CITATION.cff") if Path(name).is_file()],
        library=relative(LIBRARY),
    output:
        STAMP,
    params:
        pages=sorted(BOOK),
        commit=version.commit(sources.ROOT),  # every page names it
    threads: workflow.cores
    shell:
        "OMP_NUM_THREADS=1 python -m paper.tools.warm book typeset {params.pages} --jobs {threads} --stamp {output}"
