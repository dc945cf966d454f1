"""`python -m tests.training.short_evaluations`: the model server as it is, but an evaluation takes seconds."""

from training.__main__ import main
from training.evaluation import versions
from training.evaluation.evaluate import Extent

if __name__ == "__main__":
    versions.EXTENTS["full"] = Extent(prompts=4, drafts=0, questions=4, told=0)
    main()
