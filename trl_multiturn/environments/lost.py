"""[`EnvironmentLostError`]: how a tool says that its environment is gone."""


class EnvironmentLostError(RuntimeError):
    """
    Raised by a tool whose environment has died with what it ran on: a browser, a server, a device.

    The rollout then ends as `environment_error`, its later calls are refused, and the next batch gets a new environment.
    A broken pipe (`BrokenPipeError`, `EOFError`) of a tool is taken for the same: the other end of it has ended.
    """


LOST = (EnvironmentLostError, BrokenPipeError, EOFError)
