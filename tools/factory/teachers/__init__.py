"""What a student learns to imitate: teachers, and what they say of every picture and label."""
