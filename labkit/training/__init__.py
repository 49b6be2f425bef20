"""Training: one loop for every network of the course, with checkpoints that resume to the same result.

loop           fit: epochs, steps, best weights
arguments      what is checked before the first step
losses         the loss of a batch, and its means over samples
validation     figures on data that is not trained on, and which of them is best
checkpoint     the file; settings: what it must have in common with the call that goes on from it
random_state   where every generator of random numbers stands
team           several processes
fingerprint    whether two values, or two functions, are the same
memory         trainings that the project's own tests need not repeat
"""

from labkit.training.loop import fit
from labkit.training.team import first_process

__all__ = ["first_process", "fit"]
