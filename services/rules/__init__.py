"""The rule table: rules stored once, cut into disjoint regions that a few set look-ups find (design 0004).

`rule` says what a rule is, `table` who refers to it, `compile` makes stages of them and `elements` writes those for nft.
"""
