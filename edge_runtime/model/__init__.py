"""From a verified bundle to scored labels: bundle, preprocess, encoder, labels.

Nothing here knows a camera.
"""
