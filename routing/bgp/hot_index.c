/* The index of hot.h: what is seldom done with it. */
#include "hot.h"

bool index_grow(struct index *index)
{
    struct index grown = {NULL, index->slots ? index->mask * 2 + 1 : 15, 0};
    size_t size = ((size_t)grown.mask + 1) * sizeof *grown.slots;

    if (grown.mask == UINT32_MAX || !(grown.slots = PyMem_Malloc(size))) {
        PyErr_NoMemory();
        return false;
    }
    memset(grown.slots, 0xff, size);
    for (uint32_t slot = 0; index->slots && slot <= index->mask; slot++)
        if (index->slots[slot].number != NIL)
            index_put(&grown, index->slots[slot].hash, index->slots[slot].number);
    PyMem_Free(index->slots);
    *index = grown;
    return true;
}

/* Those that stand behind it because its slot was taken move up: no tombstones. */
void index_remove(struct index *index, uint32_t hash, uint32_t number)
{
    uint32_t hole = hash & index->mask, slot;

    while (index->slots[hole].number != number)
        hole = (hole + 1) & index->mask;
    for (slot = (hole + 1) & index->mask; index->slots[slot].number != NIL; slot = (slot + 1) & index->mask) {
        uint32_t home = index->slots[slot].hash & index->mask;

        if (((slot - home) & index->mask) >= ((slot - hole) & index->mask)) {
            index->slots[hole] = index->slots[slot];
            hole = slot;
        }
    }
    index->slots[hole].number = NIL;
    index->used--;
}
