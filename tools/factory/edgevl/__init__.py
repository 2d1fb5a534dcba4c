"""EdgeVL (Cai et al., ECCV 2024): a colour student learns infrared and depth from pairs of
pictures."""
