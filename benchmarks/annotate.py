"""How many requests a second `distill-jax annotate` sustains, and how its memory grows with the rows.

    python -m benchmarks.annotate --rows 500000

    python -m benchmarks.annotate --rows 500000 --without-http

Starts the tests' loopback server and the command, each in its own process, and reads the command's resident
memory while the store grows. Then it runs the command again on the full store, which sends no request and
exports all rows. `--without-http` answers inside the process, with the same prompts, store, index and loop,
so that half a million rows take minutes. Prints one JSON object a line, at each mark and at the end.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
MARKS = (1_000, 10_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000)


def resident(pid: int, field: str = "VmRSS") -> float:
    """Mebibytes of a process; 0 when it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    found = [line for line in lines if line.startswith(field)]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 when it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lines:
    """Counts the lines of a growing file."""

    def __init__(self, path: pathlib.Path):
        self._path, self._offset, self.count = path, 0, 0

    def update(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while block := file.read(1 << 20):
                    self._offset += len(block)
                    self.count += block.count(b"\n")
        return self.count


def watch(command: list[str], store: pathlib.Path, phase: str) -> None:
    """Runs the command, and prints its progress and memory."""
    lines, marks, peak = Lines(store), list(MARKS), 0.0
    before = lines.update()
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = None  # time, processor time and number of completions at the first ones: start-up does not count
    while process.poll() is None:
        time.sleep(0.25)
        memory, now = resident(process.pid), time.monotonic()
        peak = max(peak, resident(process.pid, "VmHWM"))
        count = lines.update()
        if first is None and count > before:
            first = now, processor_seconds(process.pid), count
        while marks and first and count >= marks[0]:
            mark = {"phase": phase, "completions": marks.pop(0), "resident_mib": round(memory, 1)}
            new = max(count - first[2], 1)
            used = processor_seconds(process.pid) - first[1]
            mark |= {"requests_per_second": round(new / max(now - first[0], 1e-9), 1)}
            print(json.dumps(mark | {"processor_ms_per_request": round(1000 * used / new, 2)}), flush=True)
    seconds = time.monotonic() - begun
    end = {"phase": phase, "status": process.returncode, "completions": lines.update()}
    print(json.dumps(end | {"seconds": round(seconds, 1), "peak_mib": round(peak, 1)}), flush=True)


def answer_inside(data: str, store: str, concurrency: int) -> None:
    """`annotate` with a teacher inside the process."""
    from distill_jax.config import AnnotateConfig
    from distill_jax.teachers.messages import Answer, Client, Reply
    from distill_jax.teachers.session import Session

    class Inside(Client):
        endpoint = "inside"

        async def complete(self, request):
            text = f"There are {len(request.prompt.question)} of them. So the answer is neutral."
            return Reply([Answer(text, "stop")], 90, 12, "m", "cmpl-0")

    classes = ("entailment", "neutral", "contradiction")
    config = AnnotateConfig(source=data, model="m", classes=classes, store=store, concurrency=concurrency)
    with Session(config, client=Inside()) as session:
        outcome = session.ask()
    sys.exit(bool(outcome.stopped or outcome.failed))


def main() -> None:
    """Reads the flags and runs the two phases."""
    if sys.argv[1:2] == ["--inside"]:
        answer_inside(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds the server takes for an answer")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--without-http", action="store_true")
    parser.add_argument("--folder", help="for the files, about 1 KB a row; default a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        data, store = pathlib.Path(folder) / "rows.jsonl", pathlib.Path(folder) / "store.jsonl"
        with data.open("w") as file:
            for n in range(args.rows):
                text = (
                    f"Premise: {n} people stand in line. Hypothesis: " + "There is a long line of people. " * 6
                )
                file.write(json.dumps({"id": f"row-{n}", "input": text}) + "\n")
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/teachers/loopback_teacher.py"), str(args.delay)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = server.stdout.readline().strip()
            command = [sys.executable, "-m", "distill_jax.cli", "annotate", str(data), "--store", str(store)]
            command += ["--base-url", url, "--model", "m", "--concurrency", str(args.concurrency)]
            command += ["--classes", "entailment,neutral,contradiction"]
            inside = [sys.executable, __file__, "--inside", str(data), str(store), str(args.concurrency)]
            watch(inside if args.without_http else command, store, "annotate")
            exported = ["--output", f"{folder}/out.jsonl", "--report", f"{folder}/report.html"]
            watch([*command, *exported], store, "export")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
