"""The prober as tests use it: no failed request, or the figures and the failures in the assertion."""

from demo.prober import Report


def assert_no_failure(report: Report) -> None:
    assert report.total > 0, "the prober sent nothing"
    assert not report.failures, "\n".join([report.summary(), *map(str, report.failures[:20])])
