/* What the C form of the hot layer shares among its files: octets of prefixes, hashing, and an index.
 *
 * The reference in Python (nlri.py, table.py, scan.py, encode.py) says what everything does; this says how it is made
 * quick. All octets come from neighbours: nothing is read before it is known to be there.
 */
#ifndef EDGEWAY_HOT_H
#define EDGEWAY_HOT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define NIL UINT32_MAX

/* --- arguments ------------------------------------------------------------------------------------------------ */

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

struct octets {
    const uint8_t *at, *end;
};

bool hot_arguments(const char *name, Py_ssize_t wanted, Py_ssize_t given);
bool hot_octets(PyObject *object, struct octets *octets);
int hot_width(PyObject *object); /* 32 or 128; -1 with an exception */
PyObject *hot_generic(PyObject *type, PyObject *item);

/* --- prefixes ------------------------------------------------------------------------------------------------- */

/* Where the prefix at `at` ends; NULL if it is longer than an address or than what is there. */
static inline const uint8_t *hot_after(const uint8_t *at, const uint8_t *end, unsigned width)
{
    unsigned size = (*at + 7U) / 8U;

    return *at <= width && size < (size_t)(end - at) ? at + 1 + size : NULL;
}

/* How many prefixes there are; -1 with ValueError if the octets are not prefixes. */
Py_ssize_t hot_count(struct octets nlri, unsigned width);

/* The end of the fullest piece of at most `room` octets; NULL with ValueError. Not to be asked when nothing is left. */
const uint8_t *hot_piece(struct octets nlri, Py_ssize_t room);

/* --- hashing: neighbours choose the prefixes, so they must not be able to foretell where these go --------------- */

extern uint64_t hot_seed[3];

static inline uint32_t hot_hash(uint64_t high, uint64_t low, unsigned length)
{
    uint64_t mixed = (high ^ hot_seed[0]) * hot_seed[1];

    mixed ^= mixed >> 32;
    mixed = (mixed + (low ^ ((uint64_t)length << 56 | length))) * hot_seed[2];
    mixed ^= mixed >> 32;
    return (uint32_t)((mixed * hot_seed[1]) >> 32);
}

/* --- an index: numbers of things that live elsewhere, found by their hash -------------------------------------------
 *
 * Linear probing, at most three quarters full. The hash stands beside the number: whatever is looked for, moved or taken
 * out, the things themselves are left alone, which lie anywhere in memory. */

struct slot {
    uint32_t hash, number; /* number: NIL where there is none */
};

struct index {
    struct slot *slots;
    uint32_t mask; /* number of slots - 1; without meaning while there are no slots */
    uint32_t used;
};

/* Walk over the slots that may hold what has this hash, from its home to the first that is empty. */
#define INDEX_EACH(index, wanted, slot)                                                                                \
    for (uint32_t slot = (wanted) & (index)->mask; (index)->slots[slot].number != NIL; slot = (slot + 1) & (index)->mask) \
        if ((index)->slots[slot].hash == (wanted))

/* Room is reserved. */
static inline void index_put(struct index *index, uint32_t hash, uint32_t number)
{
    uint32_t slot = hash & index->mask;

    while (index->slots[slot].number != NIL)
        slot = (slot + 1) & index->mask;
    index->slots[slot] = (struct slot){hash, number};
    index->used++;
}

bool index_grow(struct index *index);
void index_remove(struct index *index, uint32_t hash, uint32_t number);

/* Make room for one more; false with MemoryError. */
static inline bool index_reserve(struct index *index)
{
    return (index->slots && index->used < index->mask / 4 * 3) || index_grow(index);
}

/* --- what the module is made of --------------------------------------------------------------------------------- */

extern PyTypeObject hot_filter_type, hot_table_type;

PyObject *hot_normal(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *hot_count_method(PyObject *module, PyObject *nlri);
PyObject *hot_cut(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *hot_split(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *hot_lift(PyObject *module, PyObject *attributes);
PyObject *hot_scan(PyObject *module, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords);
PyObject *hot_weigh(PyObject *module, PyObject *octets);
PyObject *hot_announce(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *hot_withdraw(PyObject *module, PyObject *const *arguments, Py_ssize_t given);

#endif
