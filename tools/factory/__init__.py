"""What the verbs of the model factory share: teachers, students, losses, pictures, quantisation."""
