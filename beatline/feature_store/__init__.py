"""The feature store: what extract_features measured, in Feast, to be asked for by machine and by time.

``definitions`` says what is in it, ``repository/`` is what Feast reads and runs in an environment of its
own, ``store`` has it run there, and ``client`` asks Feast's server. Neither the pipeline nor the service
imports Feast.
"""
