"""Roles played by chat models: behind an API, or scripted for tests and rehearsals.

models.py      chat models by name
agents.py      viewer, junior, senior, validator and caption judge
answers.py     forms of their answers
prompts/       versioned prompts
estimate.py    upper bound of a run's cost
scripted.py    models with scripted replies
"""
