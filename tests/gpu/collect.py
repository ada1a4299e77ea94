#!/usr/bin/env python3
"""Makes one JSON file of the folder that tests/gpu/run.sh filled. collect.py RESULTS COMMIT_FILE"""

import json
import pathlib
import sys
import time


def main():
    results, commit_file = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    name, driver, memory = (results / "device").read_text().splitlines()[0].split(", ")
    report = {
        "commit": commit_file.read_text().split("\n")[0],
        "has_uncommitted_changes": "uncommitted" in commit_file.read_text(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": name,
        "driver": driver,
        "memory": memory,
        "parts": [],
    }
    for line in (results / "parts").read_text().splitlines():
        part, status, seconds = line.split()
        entry = {"name": part, "ok": status == "0", "seconds": int(seconds)}
        log = (results / f"{part}.log").read_text(errors="replace")
        messages = (results / f"{part}.err").read_text(errors="replace")
        if part.startswith(("prefill-", "decode-", "peers")):
            try:
                entry["bench"] = json.loads(log)
            except ValueError:  # a part whose result nobody can read has not succeeded
                entry |= {"ok": False, "output": log[-2000:]}
        else:
            entry["output"] = "\n".join(log.strip().splitlines()[-3:])
        if not entry["ok"]:
            entry["messages"] = messages[-2000:]
        report["parts"].append(entry)
    target = results / "report.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    num_failed = sum(not part["ok"] for part in report["parts"])
    print(f"{target}: {len(report['parts'])} parts, {num_failed} failed")
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
