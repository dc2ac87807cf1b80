/* What a PrefixTable is made of: prefixes, the groups of those that have one label, and what has changed.
 *
 * Everything is a number into an array, so that a prefix costs 24 octets (IPv6: 36) and 11 to 21 of index. All prefixes of
 * a group are a list through `previous` and `next`: to find or to move them costs what the group has, not the table.
 */
#ifndef EDGEWAY_HOT_PREFIXES_H
#define EDGEWAY_HOT_PREFIXES_H

#include "hot.h"

#define NOBODY NIL            /* the group of the prefixes that are not there */
#define UNCHANGED (NIL - 1)   /* `before` of a prefix that has not changed since changes were taken */

struct entry {
    uint32_t group, before;
    uint32_t previous, next; /* in its group; of a free entry, the next free one */
    uint8_t length;
    bool seen; /* in the batch that is being looked up */
    uint32_t address[];
};

struct group {
    PyObject *label;      /* NULL: free */
    uint32_t first, last; /* its prefixes; of a free group, the next free one */
    uint32_t count;
    uint32_t remembered; /* of how many prefixes it is `before` */
    uint32_t asked;      /* where its part of a batch is, while the batch is being looked up */
};

struct prefixes {
    unsigned width;
    size_t stride;
    char *entries;
    uint32_t entry_count, entry_capacity, free_entry;
    struct index by_prefix;
    struct group *groups;
    uint32_t group_count, group_capacity, free_group;
    struct index by_label;
    uint32_t *changed; /* entries in order of their first change */
    uint32_t changed_count, changed_capacity;
    uint32_t there; /* prefixes that have a label */
};

struct key {
    uint32_t address[4];
    uint8_t length;
    uint32_t hash;
};

static inline struct entry *entry_at(const struct prefixes *prefixes, uint32_t number)
{
    return (struct entry *)(void *)(prefixes->entries + number * prefixes->stride);
}

static inline PyObject *label_of(const struct prefixes *prefixes, uint32_t group)
{
    return group == NOBODY ? Py_None : prefixes->groups[group].label;
}

/* Copies of a known size are one instruction; nearly all are of three or four octets. */
static inline void copy_address(void *to, const void *from, size_t size)
{
    switch (size) {
    case 0: break;
    case 1: memcpy(to, from, 1); break;
    case 2: memcpy(to, from, 2); break;
    case 3: memcpy(to, from, 3); break;
    case 4: memcpy(to, from, 4); break;
    default: memcpy(to, from, size);
    }
}

static inline size_t entry_size(const struct entry *entry)
{
    return 1 + (entry->length + 7U) / 8U;
}

static inline uint8_t *put_entry(uint8_t *out, const struct entry *entry)
{
    size_t size = entry_size(entry);

    *out = entry->length;
    copy_address(out + 1, entry->address, size - 1);
    return out + size;
}

void prefixes_open(struct prefixes *prefixes, unsigned width);
void prefixes_close(struct prefixes *prefixes); /* to what it was when opened; may run code of the labels */

/* Read the prefix at `at`, which is known to be whole. */
void prefixes_key(const struct prefixes *prefixes, const uint8_t *at, struct key *key);
uint32_t prefixes_find(const struct prefixes *prefixes, const struct key *key);        /* NIL: never heard of */
uint32_t prefixes_find_or_add(struct prefixes *prefixes, const struct key *key);       /* NIL: MemoryError */
void prefixes_drop_unused(struct prefixes *prefixes, uint32_t number);                 /* neither there nor changed */

/* A walk over packed NLRI that is some prefixes ahead, so that the memory they need has come when they do. */
enum { AHEAD = 16 };

struct walk_ahead {
    const struct prefixes *prefixes;
    struct octets left;
    unsigned at, count;
    struct key keys[AHEAD];
};

const struct key *walk_next(struct walk_ahead *walk); /* NULL: at the end */

uint32_t prefixes_group(const struct prefixes *prefixes, const PyObject *label); /* NIL: no such label, or None */
bool prefixes_group_for(struct prefixes *prefixes, PyObject *label, uint32_t *group); /* false: MemoryError */
void prefixes_release_group(struct prefixes *prefixes, uint32_t group);          /* if nothing needs it */

bool prefixes_reserve_changes(struct prefixes *prefixes, size_t more);           /* false: MemoryError */
void prefixes_move(struct prefixes *prefixes, uint32_t number, uint32_t group);  /* room for the change is reserved */
void prefixes_forget_changes(struct prefixes *prefixes);

/* What the methods of these names return. They make objects, so the table must not change meanwhile. */
PyObject *hot_take_changes(struct prefixes *prefixes);
PyObject *hot_within(struct prefixes *prefixes, struct octets nlri, Py_ssize_t count);

#endif
