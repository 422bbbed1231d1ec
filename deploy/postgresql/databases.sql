-- Run once, when the volume of the server is new: a database for each service that keeps something.
CREATE DATABASE mlflow;
CREATE DATABASE features;
