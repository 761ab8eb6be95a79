#!/usr/bin/env python3
"""Puts realistic bugs into the coherence core, one at a time, and shows that the explorer or the
simulator catches each of them; of those that only choose badly, which breaks no rule, a unit test.

A mutant is NAME.patch beside this file: its first line says what is wrong, then a unified diff of
libgob/protocol. The patched file is compiled in the build tree and linked with everything else as
it is; the product's own sources and libraries are not touched. A mutant survives when no check
finds it: a check is missing then."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
LEAST_MUTANTS = 15

# Cheapest first. Each is complete within its bounds, or takes some seconds.
EXPLORER = "explorer"
SIMULATOR = "simulator"
UNIT = "unit test"
CHECKS = [
    (EXPLORER, "2 nodes, 1 page", "--nodes 2 --flushes any --expiries 1"),
    (EXPLORER, "2 nodes, 1 page, swap", "--nodes 2 --flushes any --budgets 10 10 --io-failures 1"),
    (EXPLORER, "2 nodes, 1 page, leave",
     "--nodes 2 --flushes 1 --accesses 4 --leaves 1 --restarts 1"),
    (EXPLORER, "2 nodes, 2 pages", "--nodes 2 --pages 2 --flushes 1 --accesses 4 --runs"),
    (EXPLORER, "3 nodes, 1 page, swap",
     "--nodes 3 --flushes 2 --accesses 3 --budgets 2000000 10 10 --io-failures 1"),
    (EXPLORER, "3 nodes, 1 page", "--nodes 3 --flushes any"),
    (SIMULATOR, "60 seeds", "--seed 1 --seeds 60 --steps 10000"),
    (EXPLORER, "3 nodes, 1 page, crash", "--nodes 3 --flushes 1 --accesses 3 --crashes 1"),
    (EXPLORER, "3 nodes, 1 page, leave and crash",
     "--nodes 3 --flushes 1 --accesses 2 --leaves 1 --crashes 1"),
    (SIMULATOR, "1000 seeds", "--seed 1 --seeds 1000 --steps 10500"),
]
# For mutants named file_*.
FILE_CHECKS = [
    (EXPLORER, "2 nodes, a file",
     "--nodes 2 --files --flushes 1 --accesses 3 --write-backs 1 --discards 1 --io-failures 1"),
    (EXPLORER, "2 nodes, a file, two discards",
     "--nodes 2 --files --flushes 1 --accesses 2 --write-backs 1 --discards 2"),
    (EXPLORER, "2 nodes, a file, crash",
     "--nodes 2 --files --flushes 1 --accesses 2 --write-backs 1 --discards 1 --crashes 1"
     " --restarts 1"),
    (EXPLORER, "3 nodes, a file, small budgets",
     "--nodes 3 --files --flushes 1 --accesses 3 --write-backs 1 --budgets 2 2 2"),
    (EXPLORER, "3 nodes, a file, two crashes", "--nodes 3 --files --accesses 3 --crashes 2"),
    (SIMULATOR, "30 short seeds, files, crashes, cut links",
     "--seed 901560 --seeds 30 --steps 800 --files --crashes --disconnects --budget 12 --nodes 3"),
    (SIMULATOR, "200 seeds, files", "--seed 20000 --seeds 200 --steps 10000 --files"),
    (SIMULATOR, "400 seeds, files, crashes",
     "--seed 30000 --seeds 400 --steps 10000 --files --crashes --budget 12"),
    (SIMULATOR, "400 seeds, files, crashes, swap",
     "--seed 30200 --seeds 400 --steps 10000 --files --crashes --swap --budget 12"),
    (SIMULATOR, "20 seeds, files, crashes, cut links",
     "--seed 201940 --seeds 20 --steps 10000 --files --crashes --disconnects --swap --budget 12"
     " --nodes 3"),
    (SIMULATOR, "20 more of them",
     "--seed 204830 --seeds 20 --steps 10000 --files --crashes --disconnects --swap --budget 12"
     " --nodes 3"),
    (SIMULATOR, "25 seeds, files, crashes, cut links, large budgets",
     "--seed 7010400 --seeds 25 --steps 10000 --files --crashes --disconnects"),
    (SIMULATOR, "12 more of them",
     "--seed 7020315 --seeds 12 --steps 10000 --files --crashes --disconnects --swap --budget 12"
     " --nodes 3"),
    (SIMULATOR, "40 seeds, files, crashes, cut links, no swap",
     "--seed 101440 --seeds 40 --steps 10000 --files --crashes --disconnects --budget 12"
     " --nodes 3"),
]
# For mutants named sync_*: of the home's syncs of a file.
SYNC_CHECKS = [
    (EXPLORER, "2 nodes, a file, a sync", "--nodes 2 --files --flushes 1 --accesses 3 --syncs 1"),
    (EXPLORER, "2 nodes, a file, a sync, leave",
     "--nodes 2 --files --accesses 2 --syncs 1 --leaves 1"),
    (EXPLORER, "3 nodes, a file, a sync, crash",
     "--nodes 3 --files --accesses 2 --reads 1 --syncs 1 --crashes 1"),
    (EXPLORER, "3 nodes, a file at its manager, a sync",
     "--nodes 3 --files --home 1 --accesses 3 --write-backs 1 --syncs 1"),
    (SIMULATOR, "100 seeds, files, syncs",
     "--seed 20000 --seeds 100 --steps 10000 --files --syncs"),
    (SIMULATOR, "200 seeds, files, syncs, crashes",
     "--seed 50000 --seeds 200 --steps 10000 --files --syncs --crashes"),
]
# For mutants named choice_*.
CHOICE_CHECKS = [(UNIT, "reclaim of files", "")]
CHECK_SECONDS = 180  # a mutant may also run for ever: then this check did not catch it


class Broken(Exception):
    """The mutant cannot be tried; the text says why."""


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


class Mutant:
    def __init__(self, patch, toolchain):
        self.patch = patch
        self.name = patch.stem
        self.checks = CHECKS
        if self.name.startswith("file_"):
            self.checks = FILE_CHECKS
        if self.name.startswith("sync_"):
            self.checks = SYNC_CHECKS
        if self.name.startswith("choice_"):
            self.checks = CHOICE_CHECKS
        self.what = patch.read_text().splitlines()[0]
        self.toolchain = toolchain
        self.directory = pathlib.Path(toolchain["binary_dir"]) / self.name
        self.caught = []  # (kind, check, violation)
        self.problem = ""

    def build(self):
        """Compiles what the patch touches; returns the objects."""
        source = pathlib.Path(self.toolchain["source_dir"])
        shutil.rmtree(self.directory, ignore_errors=True)
        files = re.findall(r"^\+\+\+ b/(\S+)", self.patch.read_text(), re.M)
        for file in files:
            (self.directory / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, self.directory / file)
        applied = run(["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-i", self.patch],
                      cwd=self.directory)
        if applied.returncode != 0 or not files:
            raise Broken(f"{self.patch.name} does not apply to the core any more; write it anew:\n"
                         + applied.stdout + applied.stderr)
        if any(file.endswith(".h") for file in files):  # then the whole core depends on it
            for other in (source / "libgob/protocol").glob("*.cc"):
                if not (self.directory / "libgob/protocol" / other.name).exists():
                    shutil.copy(other, self.directory / "libgob/protocol")
        objects = []
        for file in sorted((self.directory / "libgob/protocol").glob("*.cc")):
            objects.append(file.with_suffix(".o"))
            command = self.toolchain["compile"][str(source / "libgob/protocol" / file.name)]
            mutated_first = ["-I" + str(self.directory)]
            compiled = run(self.toolchain["launcher"] + command[:1] + mutated_first + command[1:]
                           + ["-Wno-error", "-o", str(objects[-1]), "-c", str(file)])
            if compiled.returncode != 0:
                raise Broken(f"{self.name} does not compile:\n{compiled.stderr}")
        return objects

    def link(self, kind, objects):
        program = self.directory / kind
        if not program.exists():
            inputs = self.toolchain[kind]
            linked = run(self.toolchain["link"] + ["-o", str(program)] + inputs["objects"]
                         + [str(o) for o in objects] + inputs["libraries"])
            if linked.returncode != 0:
                raise Broken(f"{self.name} does not link:\n{linked.stderr}")
        return program

    def try_check(self, kind, check, arguments, objects):
        """What the check found, or None."""
        program = self.link(kind, objects)
        scenario = self.directory / f"{kind}.scenario"
        try:
            result = run([program, *shlex.split(arguments), "--out", scenario],
                         timeout=CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        if result.returncode == 0:
            return None
        if kind == UNIT:
            failed = re.search(r"^\[  FAILED  \] (\S+)", result.stdout, re.M)
            if failed is None or run([self.toolchain[kind]["program"]]).returncode != 0:
                raise Broken(f"{self.name}: the unit test fails, but not because of the mutant:\n"
                             + result.stdout[-2000:] + result.stderr)
            return failed[1]
        found = re.search(r"^violation: (.*)", result.stdout, re.M)
        if found is None:
            raise Broken(f"{self.name}: {kind}, {check}: it neither passed nor found a violation "
                         f"(status {result.returncode}):\n{result.stdout[-2000:]}{result.stderr}")
        seed = re.search(r"^seed (\d+):", result.stdout, re.M)
        alone = seed and re.sub(r"--seed \d+ --seeds \d+", f"--seed {seed[1]} --seeds 1", arguments)
        self.check_scenario(kind, program, scenario, alone)
        return found[1]

    def check_scenario(self, kind, program, scenario, alone):
        """A counterexample must show the bug with the mutant, and nothing with the real core."""
        with_bug = run([program, "--replay", scenario])
        if with_bug.returncode != 1:
            raise Broken(f"{self.name}: the counterexample {scenario} does not replay")
        real = self.toolchain[kind]["program"]
        without = run([real, "--replay", scenario])
        if without.returncode != 0 and alone and re.search("waits for ever|come to rest",
                                                           without.stdout):
            # With small budgets a program may wait until its clock ends that: a scenario has none.
            without = run([real, *shlex.split(alone), "--out", scenario.with_suffix(".real")])
        if without.returncode != 0:
            raise Broken(f"{self.name}: the counterexample {scenario} is a bug of the real core:\n"
                         + without.stdout[-2000:])

    def execute(self, full):
        """Tries the checks until one catches the mutant; with `full` until one of each kind has."""
        began = time.monotonic()
        try:
            objects = self.build()
            for kind, check, arguments in self.checks:
                if any(kind == by for by, _, _ in self.caught):
                    continue
                if found := self.try_check(kind, check, arguments, objects):
                    self.caught.append((kind, check, found))
                    if not full:
                        break
        except Broken as problem:
            self.problem = str(problem)
        print(f"{time.monotonic() - began:6.1f} s  {self.name}: "
              + ("; ".join(f"{kind}, {check}" for kind, check, _ in self.caught) or "SURVIVED"),
              flush=True)
        return self


def load_toolchain(build):
    """How the build made the core, and what a mutant is linked with."""
    with open(build / "tests/mutants/mutants.json") as file:
        toolchain = json.load(file)
    toolchain["compile"] = {}
    toolchain["launcher"] = [word for word in [toolchain["launcher"]] if word]
    with open(build / "compile_commands.json") as file:
        for entry in json.load(file):
            if "/libgob/protocol/" not in entry["file"]:
                continue
            words = shlex.split(entry["command"])
            cut = words.index("-o")
            flags = [w for w in words[:cut] if w not in ("-O2", "-g", "-g1")] + ["-O1"]
            toolchain["compile"][entry["file"]] = flags
    toolchain["link"] = [toolchain["compiler"], "-pthread"]
    return toolchain


def print_table(mutants):
    def cell(mutant, kind):
        for by, check, found in mutant.caught:
            if by == kind:
                return f"{check}: {found.split(' (')[0].split(';')[0].replace('|', '/')}"
        return "—"

    print("| mutant | what is wrong | explorer | simulator |\n|---|---|---|---|")
    for mutant in mutants:
        if mutant.checks is CHOICE_CHECKS:
            continue
        print(f"| {mutant.name} | {mutant.what} | {cell(mutant, EXPLORER)} "
              f"| {cell(mutant, SIMULATOR)} |")


def keep_scenarios(mutants):
    """Counterexamples become regression tests: tests/scenarios replays them with the real core."""
    for mutant in mutants:
        made = mutant.directory / f"{EXPLORER}.scenario"
        if not made.exists():
            continue
        kept = HERE.parent / "scenarios" / f"{mutant.name}.scenario"
        kept.write_text(f"# {mutant.what}\n# Found by the explorer with the mutant {mutant.name}.\n"
                        + made.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="mutants; all if none is named")
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parents[1] / "build/release",
                        help="the build tree (explore, sim and protocol_file_reclaim_test must be built)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--full", action="store_true",
                        help="do not stop at the first catch: try explorer and simulator both")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    parser.add_argument("--keep", action="store_true",
                        help="put the explorer's counterexamples into tests/scenarios")
    arguments = parser.parse_args()
    os.environ.setdefault("CCACHE_NOHASHDIR", "1")

    patches = sorted(HERE.glob("*.patch"))
    if arguments.names:
        unknown = set(arguments.names) - {patch.stem for patch in patches}
        if unknown:
            sys.exit(f"mutants: no such mutant: {', '.join(sorted(unknown))}")
        patches = [patch for patch in patches if patch.stem in arguments.names]
    elif len(patches) < LEAST_MUTANTS:
        sys.exit(f"mutants: only {len(patches)} patches in {HERE}, at least {LEAST_MUTANTS} needed")
    toolchain = load_toolchain(arguments.build.resolve())
    mutants = [Mutant(patch, toolchain) for patch in patches]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda mutant: mutant.execute(arguments.full), mutants))
    if arguments.table:
        print_table(mutants)
    if arguments.keep:
        keep_scenarios(mutants)
    bad = [mutant for mutant in mutants if mutant.problem or not mutant.caught]
    for mutant in bad:
        print(f"\n{mutant.name}: " + (mutant.problem or "survived every check: one is missing"))
    print(f"{len(mutants) - len(bad)} of {len(mutants)} mutants caught")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
