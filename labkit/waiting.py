"""How the threads of a kernel wait for one another: asleep, not spinning.

By default a thread that has done its share of a matrix product spins until the others have done theirs. Alone on a
machine that saves a little; as soon as something else runs there, the spinning takes the very core that the slowest
thread needs. Milliseconds of a training step of the film detector on two cores, quiet and with two busy programs
beside: spinning 124 and 377, asleep 161 and 204 (`benchmarks/waiting.py`).
"""

from collections.abc import Mapping

POLICY = "OMP_WAIT_POLICY"
USERS_CHOICE = (POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # whoever sets one of these knows what they want


def quiet_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment for a process whose threads wait asleep; a choice of the user's own stays.

    OpenMP reads it once, so it counts only for a process that is started with it.

    Args:
        environment: names and values, such as `os.environ`; it stays as it is.

    Example:
        >>> quiet_environment({"HOME": "/home/ada"})
        {'HOME': '/home/ada', 'OMP_WAIT_POLICY': 'PASSIVE'}
        >>> quiet_environment({"GOMP_SPINCOUNT": "1000"})
        {'GOMP_SPINCOUNT': '1000'}
    """
    if any(name in environment for name in USERS_CHOICE):
        return dict(environment)
    return {**environment, POLICY: "PASSIVE"}
