# From notebooks to the book: every page of a profile is one job, the strict build is the last.
#
#   make book PROFILE=quick|full                                     the usual way
#   snakemake --cores 8 --config profile=full                        the same by hand
#   snakemake --executor slurm --jobs 10 --config profile=full       on a cluster (with snakemake-executor-plugin-slurm)
#
# A page depends on its notebook, its parameters, the pages whose stored results it reuses, the reference results
# of its study and exactly those files of lib that its imports reach. Jobs write under a temporary name and rename,
# so a build that was killed leaves no half page, and lib's store keeps what a killed study had finished.
import fcntl
import shlex
from pathlib import Path

from paper.tools import pages
from lib.checks import ParameterError

try:
    # Reads every notebook's parameters: an unknown one stops the build before anything runs.
    BOOK = pages.profile(Path("profiles") / f"{config.get('profile', 'quick')}.yaml")
except ParameterError as refused:
    raise SystemExit(str(refused)) from None

if workflow.is_main_process:
    # Snakemake's own lock outlives a killed build; the kernel drops this one with the process.
    Path(".snakemake").mkdir(exist_ok=True)
    LOCK = open(".snakemake/build.lock", "w")
    try:
        fcntl.flock(LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("Another build is running in this folder.") from None

RUNS = [f"book/runs/{name}.ipynb" for name in BOOK]
TEXT = sorted(
    str(path)
    for pattern in ("book/*.md", "book/*.bib", "book/static/**/*")
    for path in Path(".").glob(pattern)
    if path.is_file()
)


def relative(paths):
    return [str(path.relative_to(pages.ROOT)) for path in paths]


def arguments(wildcards):
    page = BOOK[wildcards.page]
    words = [] if page.title is None else ["--title", page.title]
    for name, value in page.parameters.items():
        words += ["-p", name, value if isinstance(value, str) else repr(value)]
    return shlex.join(words)


def needed(wildcards):
    page = BOOK[wildcards.page]
    references = sorted(Path("results/reference").glob(f"{page.notebook}*"))
    return [
        *relative([page.source, *pages.sources(page.source)]),
        *map(str, references),
        *(f"book/runs/{name}.ipynb" for name in page.after),
    ]


wildcard_constraints:
    page="|".join(BOOK),


rule all:
    input:
        "_build/html/index.html",


rule page:
    input:
        needed,
    output:
        "book/runs/{page}.ipynb",
    params:
        notebook=lambda wildcards: f"notebooks/{BOOK[wildcards.page].notebook}.ipynb",
        arguments=arguments,
    threads: lambda wildcards: BOOK[wildcards.page].threads or workflow.cores
    shell:
        "OMP_NUM_THREADS={threads} python -m paper.tools.pages run {params.notebook} {output} {params.arguments}"


# Pages that the profile marks so start first, so that at the end no core waits for one of them.
LONGEST = [name for name, page in BOOK.items() if page.first]


use rule page as longest_page with:
    wildcard_constraints:
        page="|".join(LONGEST) or "none",
    priority: 1


ruleorder: longest_page > page


rule book:
    input:
        runs=RUNS,
        text=TEXT,
        settings=["_config.yml", "_toc.yml"],
        library=relative(sorted(Path(pages.ROOT, "lib").rglob("*.py"))),
    output:
        "_build/html/index.html",
    params:
        pages=sorted(BOOK),
    threads: 1
    shell:
        # From nothing each time: an incremental build stays silent about warnings that it gave before.
        "python -m paper.tools.pages prune {params.pages}; rm -rf _build/next; mkdir -p _build/next;"
        " jupyter-book build . --path-output _build/next --quiet -W -n --keep-going >_build/next/log"
        " || {{ cat _build/next/log; exit 1; }};"
        " rm -rf _build/html; mv _build/next/_build/html _build/html; rm -rf _build/next"
