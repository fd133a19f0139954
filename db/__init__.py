"""The state of the world: tables, the guarded moves of jobs, devices, results and artifacts.

No ORM object leaves this package; every public function returns frozen values.
"""
