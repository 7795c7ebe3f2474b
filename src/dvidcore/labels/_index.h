// Label indices: the stored row of one (body, block), and DVID's LabelIndex message.
//
//   LabelIndex  { map<uint64, SVCount> blocks = 1; uint64 label = 2; uint64 last_mutid = 3;
//                 string last_mod_time = 4; string last_mod_user = 5; string last_mod_app = 6; }
//   SVCount     { map<uint64, uint32> counts = 1; uint64 surface_mutid = 2; }
//   LabelIndices { repeated LabelIndex indices = 1; }
//   MappingOps  { repeated MappingOp mappings = 1; }
//   MappingOp   { uint64 mutid = 1; uint64 mapped = 2; repeated uint64 original = 3; }
// A map is a repeated message { key = 1; value = 2 }. A block's key is z << 42 | y << 21 | x, each 21 bits: a sign and
// 20 bits of magnitude.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "_wire.h"

namespace dvidcore {

constexpr int32_t MAX_BLOCK_COORD = (1 << 20) - 1;

struct IndexRow {
    int32_t z, y, x;
    uint64_t supervoxel;
    uint32_t count;
    uint64_t surface;  // of the block
};

struct LabelIndex {
    uint64_t label = 0, last_mutid = 0;
    std::string last_mod_time, last_mod_user, last_mod_app;
    std::vector<IndexRow> rows;
};

struct Bytes {
    const uint8_t* data;
    size_t size;
};

// ---- LabelIndex ----------------------------------------------------------------------------------------------------

inline uint64_t block_key_part(int32_t v) {
    if (v > MAX_BLOCK_COORD || v < -MAX_BLOCK_COORD)
        throw std::invalid_argument("block coordinate " + std::to_string(v) + " is beyond +-" +
                                    std::to_string(MAX_BLOCK_COORD));
    return v < 0 ? uint64_t(-v) | 0x100000 : uint64_t(v);
}

inline int32_t block_coord_part(uint64_t bits) {
    const int32_t magnitude = int32_t(bits & 0xfffff);
    return bits & 0x100000 ? -magnitude : magnitude;
}

// Columns of n rows, `coords` z, y, x -> message. Rows must ascend by z, y, x, supervoxel: a map has each key once.
// `surface` is the block's surface_mutid in each of its rows; null means 0 everywhere.
inline void encode_label_index(const LabelIndex& header, const int32_t* coords, const uint64_t* supervoxels,
                               const uint32_t* counts, const uint64_t* surface, size_t n, std::string& out) {
    WireWriter writer(out);
    uint64_t order_before = 0;
    for (size_t first = 0; first < n;) {
        const int32_t* c = coords + 3 * first;
        const uint64_t key = block_key_part(c[0]) << 42 | block_key_part(c[1]) << 21 | block_key_part(c[2]);
        const uint64_t order = uint64_t(c[0] + MAX_BLOCK_COORD) << 42 | uint64_t(c[1] + MAX_BLOCK_COORD) << 21 |
                               uint64_t(c[2] + MAX_BLOCK_COORD);
        if (first && order <= order_before) throw std::invalid_argument("index rows are not ascending by z, y, x");
        order_before = order;
        const uint64_t changed = surface ? surface[first] : 0;
        size_t stop = first, inner = changed ? 1 + varint_size(changed) : 0;
        for (; stop < n && std::equal(c, c + 3, coords + 3 * stop); ++stop) {
            if (stop > first && supervoxels[stop] <= supervoxels[stop - 1])
                throw std::invalid_argument("index rows of a block are not ascending by supervoxel");
            if (surface && surface[stop] != changed)
                throw std::invalid_argument("index rows of a block differ in their surface_mutid");
            const size_t entry = 2 + varint_size(supervoxels[stop]) + varint_size(counts[stop]);
            inner += 2 + entry;  // an entry has less than 128 bytes: its length takes one
        }
        writer.header(1, 1 + varint_size(key) + 1 + varint_size(inner) + inner);
        writer.number(1, key);
        writer.header(2, inner);
        for (; first < stop; ++first) {
            writer.header(1, 2 + varint_size(supervoxels[first]) + varint_size(counts[first]));
            writer.number(1, supervoxels[first]);
            writer.number(2, counts[first]);
        }
        if (changed) writer.number(2, changed);
    }
    if (header.label) writer.number(2, header.label);
    if (header.last_mutid) writer.number(3, header.last_mutid);
    const std::string* texts[] = {&header.last_mod_time, &header.last_mod_user, &header.last_mod_app};
    for (uint32_t i = 0; i < 3; ++i)
        if (!texts[i]->empty()) writer.bytes(4 + i, texts[i]->data(), texts[i]->size());
}

struct SupervoxelCount {
    uint64_t supervoxel;
    uint32_t count;
};

inline SupervoxelCount decode_count(const Field& entry) {
    SupervoxelCount out{0, 0};
    WireReader reader(entry.data, entry.size);
    for (Field f; reader.next(f);) {
        if (f.type != VARINT) continue;
        if (f.number == 1) out.supervoxel = f.value;
        if (f.number == 2) {
            if (f.value > 0xffffffffu) throw std::invalid_argument("a voxel count beyond 32 bits");
            out.count = uint32_t(f.value);
        }
    }
    return out;
}

// Sorted by `key_of`; of equal keys only the last one that was read is kept, which is what a protobuf map does.
template <typename T, typename Key>
inline void keep_last(std::vector<T>& items, Key key_of) {
    const auto before = [&](const T& a, const T& b) { return key_of(a) < key_of(b); };
    if (!std::is_sorted(items.begin(), items.end(), before)) std::stable_sort(items.begin(), items.end(), before);
    size_t kept = 0;
    for (size_t i = 0; i < items.size(); ++i)
        if (i + 1 == items.size() || key_of(items[i]) != key_of(items[i + 1])) items[kept++] = items[i];
    items.resize(kept);
}

struct BlockEntry {
    uint64_t order;  // ascends by z, y, x
    int32_t z, y, x;
    Bytes message;
};

inline BlockEntry decode_block_key(const Field& entry) {
    uint64_t key = 0;
    WireReader reader(entry.data, entry.size);
    for (Field f; reader.next(f);)
        if (f.number == 1 && f.type == VARINT) key = f.value;
    if (key >> 63) throw std::invalid_argument("an index has a block key of 64 bits, 63 at most");
    BlockEntry out;
    out.z = block_coord_part(key >> 42);
    out.y = block_coord_part(key >> 21);
    out.x = block_coord_part(key);
    out.order = uint64_t(out.z + MAX_BLOCK_COORD) << 42 | uint64_t(out.y + MAX_BLOCK_COORD) << 21 |
                uint64_t(out.x + MAX_BLOCK_COORD);
    out.message = {entry.data, entry.size};
    return out;
}

inline void decode_label_index(const uint8_t* data, size_t size, LabelIndex& out) {
    std::vector<BlockEntry> blocks;
    WireReader reader(data, size);
    for (Field f; reader.next(f);) {
        if (f.type == VARINT) {
            if (f.number == 2) out.label = f.value;
            if (f.number == 3) out.last_mutid = f.value;
        } else if (f.type == BYTES) {
            const char* text = reinterpret_cast<const char*>(f.data);
            if (f.number == 1) blocks.push_back(decode_block_key(f));
            if (f.number == 4) out.last_mod_time.assign(text, f.size);
            if (f.number == 5) out.last_mod_user.assign(text, f.size);
            if (f.number == 6) out.last_mod_app.assign(text, f.size);
        }
    }
    // Every entry's counts are read, also of those that a later one replaces: a corrupt one may not pass.
    std::stable_sort(blocks.begin(), blocks.end(),
                     [](const BlockEntry& a, const BlockEntry& b) { return a.order < b.order; });
    std::vector<SupervoxelCount> counts;
    for (size_t i = 0; i < blocks.size(); ++i) {
        counts.clear();
        uint64_t surface = 0;
        WireReader entry(blocks[i].message.data, blocks[i].message.size);
        for (Field f; entry.next(f);) {
            if (f.number != 2 || f.type != BYTES) continue;
            WireReader value(f.data, f.size);
            for (Field c; value.next(c);) {
                if (c.number == 1 && c.type == BYTES) counts.push_back(decode_count(c));
                if (c.number == 2 && c.type == VARINT) surface = c.value;
            }
        }
        if (i + 1 < blocks.size() && blocks[i].order == blocks[i + 1].order) continue;
        keep_last(counts, [](const SupervoxelCount& c) { return c.supervoxel; });
        for (const SupervoxelCount& c : counts)
            out.rows.push_back({blocks[i].z, blocks[i].y, blocks[i].x, c.supervoxel, c.count, surface});
    }
}

inline void split_columns(const LabelIndex& index, int32_t* coords, uint64_t* supervoxels, uint32_t* counts,
                          uint64_t* surface) {
    for (const IndexRow& row : index.rows) {
        coords[0] = row.z, coords[1] = row.y, coords[2] = row.x;
        coords += 3;
        *supervoxels++ = row.supervoxel;
        *counts++ = row.count;
        *surface++ = row.surface;
    }
}

// The messages in field 1: the indices of LabelIndices, the operations of MappingOps.
inline void repeated_messages(const uint8_t* data, size_t size, std::vector<Bytes>& out) {
    WireReader reader(data, size);
    for (Field f; reader.next(f);)
        if (f.number == 1 && f.type == BYTES) out.push_back({f.data, f.size});
}

struct MappingOp {
    uint64_t mutid = 0, mapped = 0;
    std::vector<uint64_t> original;
};

inline void decode_mapping_op(Bytes message, MappingOp& out) {
    out = MappingOp();
    WireReader reader(message.data, message.size);
    for (Field f; reader.next(f);) {
        if (f.type == VARINT) {
            if (f.number == 1) out.mutid = f.value;
            if (f.number == 2) out.mapped = f.value;
            if (f.number == 3) out.original.push_back(f.value);
        } else if (f.type == BYTES && f.number == 3) {
            WireReader packed(f.data, f.size);
            while (!packed.at_end()) out.original.push_back(packed.varint());
        }
    }
}

}  // namespace dvidcore
