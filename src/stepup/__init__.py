"""Step-up authorization: must this person give a one-time code first?"""
