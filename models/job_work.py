"""The work of a durable job, as the process that does it sees it: the contract of job kinds.

A kind is one row of ``serving.job_kinds.KINDS``: its name, and the words of the command of the console script that does
it. The service runs that command as a child process of its own, with ``HEADWAY_HOME`` and all other settings in its
environment, behind whatever else the machine has to do, and one job at a time. The command calls ``job_work`` first:

    with job_work() as work:
        work.spec                                    # what was asked, a JSON object: check it as input
        work.checkpoints                             # a folder, found as the attempt before left it
        work.results                                 # a folder, empty, of this attempt alone
        work.tell("ranking", done=10, total=2_000)   # as often as it likes: told on at most once a second
        work.finish({"rows": 2_000}, file="audience.csv")

What goes over the pipes, if a command is to do without it:

- Standard input: one line of JSON, ``{"job", "kind", "attempt", "checkpoints", "results", "spec"}``; then an empty line
  for each time that the service has kept its lease. The end of the input, or ``SILENCE_SECONDS`` without a line, means
  that another process may have the job by now: the command must end at once (``job_work`` sees to it).
- Standard output: one JSON object a line, ``{"progress": {"step", "done", "total"}}``, and at last ``{"result": {...},
  "file": "name in results, or null"}``. Other lines are passed over.
- Exit code 0 with a result: the job has succeeded. 2: it was refused, and is not tried again. 1 with an error of ours
  on standard error (``HEADWAY_ERRORS=json``): it has failed, unless a store did not answer. Whatever else, such as
  death by a signal: it is tried again, up to the number of attempts that jobs have.

A command may be killed at any moment, and is then run again with the same ``spec`` and ``checkpoints``: it goes on from
there, or begins anew, to one result. So what it leaves in ``checkpoints`` must be whole (``features.whole_files``), and
what it does to stores must be harmless twice. To cancel, the process is sent SIGTERM, and SIGKILL some seconds later.

The file must be on disk when ``finish`` is called with its name, which syncs it. Its content type is told by its
ending: ``.csv``, ``.parquet``, ``.json`` or ``.jsonl``. The summary is shown to whoever may see the job: counts and
names of configuration, no personal data, at most ``MOST_SUMMARY_BYTES`` of JSON.
"""

from __future__ import annotations

from typing import Final

SILENCE_SECONDS: Final = 20.0
"""So long a child goes on without word that its service holds the lease."""

MOST_SUMMARY_BYTES: Final = 64 << 10
"""Of a result's summary, as JSON."""
