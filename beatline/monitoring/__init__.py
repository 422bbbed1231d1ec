"""Models in production: what was asked and answered, whether it drifts, what experts say of it later, and
new models from that.

``settings`` is the block of params.yaml; ``answers`` the log that the service writes and all else reads;
``drift`` compares a window of it with what a model has learned from; ``retraining`` makes a challenger of
recordings whose outcome is known. No stage imports this, and the service imports its log alone.
"""
