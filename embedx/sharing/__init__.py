"""Sharing: a trained model or a collection -> a folder with a card, for the model hub or for another machine."""
