from itertools import pairwise

from images import recipe


def test_nothing_is_asked_for_twice() -> None:
    """A list that is read is kept in order by the reader."""
    for names in (recipe.PACKAGES, recipe.MODULES, recipe.REMOVED, recipe.EXCLUDED):
        assert len(names) == len(set(names))


def test_what_initrd_needs_stays_in_the_tree() -> None:
    """It is copied from there."""
    patterns = " ".join(recipe.MODULES)
    for name in ("squashfs", "overlayfs", "virtio_blk", "ata", "hv_storvsc", "xen-blkfront", "sd_mod"):
        assert name in patterns


def test_lists_of_names_are_sorted_where_order_says_nothing() -> None:
    """So that a new line has one place."""
    for names in (recipe.EARLY_MODULES, recipe.MACHINE_ONLY):
        assert all(one < other for one, other in pairwise(names))
