# Cells of evidence as jobs: each job is a description that `python -m paper.tools.evidence run --executor ...` has
# written (paper/tools/jobs.py), its result a folder of evidence of its own beside it, its end a stamp. The evidence
# that a job has finished is no output in Snakemake's sense, which would remove it when the job is lost: whoever takes
# the job over goes on from there.
import json
import sys
from pathlib import Path

FOLDER, ROOT = Path(config["folder"]), config["root"]


def asked(wildcards):
    return json.loads((FOLDER / f"{wildcards.job}.json").read_text(encoding="utf-8"))


wildcard_constraints:
    job="[0-9a-f]{12}",


rule all:
    input:
        [f"{job}.done" for job in (FOLDER / "submitted").read_text().split()],


# Another attempt gets more time and memory: the one before may have been killed for want of either.
rule cells:
    output:
        "{job}.done",
    params:
        description=lambda wildcards: FOLDER / f"{wildcards.job}.json",
        log=lambda wildcards: FOLDER / f"{wildcards.job}.log",
    threads: 1
    resources:
        runtime=lambda wildcards, attempt: attempt * asked(wildcards)["minutes"],
        mem_mb=lambda wildcards, attempt: attempt * asked(wildcards)["mib"],
        gpu=lambda wildcards: asked(wildcards)["gpus"],
    shell:
        "stamp=$PWD/{output}; cd {ROOT:q} && OMP_NUM_THREADS=1 {sys.executable:q} -m paper.tools.evidence"
        ' job {params.description:q} --stamp "$stamp" >> {params.log:q} 2>&1'
