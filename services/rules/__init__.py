"""The rule table: rules stored once, cut into disjoint regions that a few set look-ups find (design 0004).

`rule` says what a rule is, `compile` makes stages of rules and `elements` writes those for nft. Who refers to a rule is known
to those who have ports: `services.policy` and `services.inline.rules`.
"""
