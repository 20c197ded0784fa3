"""Counts checks and tells what failed."""

import sys


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = []

    def that(self, rule, holds):
        """One rule; `holds` is a value, or a function that may find nothing where it looks."""
        try:
            good = holds() if callable(holds) else holds
        except (KeyError, IndexError, TypeError, StopIteration) as error:
            good = False
            rule = f"{rule} (nothing there: {error!r})"
        if good:
            self.passed += 1
        else:
            self.failed.append(rule)

    def end(self):
        for rule in self.failed:
            print(f"FAILED: {rule}")
        print(f"{self.passed} checks passed, {len(self.failed)} failed")
        sys.exit(1 if self.failed or not self.passed else 0)
