"""The model's side of the house: data set, training, drafting, evaluation, and the server in front."""
