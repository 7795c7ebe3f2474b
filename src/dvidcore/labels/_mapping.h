// The supervoxel -> body table of all versions: open addressing with linear probing, in shards.
//
// Most supervoxels are mapped in one version only; their entry is one slot of 20 bytes. A supervoxel that further
// versions map has its entries in a chain of links instead, and its slot points there.
//
// A slot's place is proportional to its hash, so a shard is nearly in hash order: growing it by a quarter is one pass
// over two arrays, which lets it be kept full (60 to 75 %). Shards grow one after another, so growth never needs a
// second copy of the whole table.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "_hash.h"

namespace dvidcore {

class MappingTable {
  public:
    static constexpr uint32_t MAX_VERSION = 0x7ffffffe;

    explicit MappingTable(uint64_t capacity) : seed_(random_seed()) {
        if (capacity > (uint64_t(1) << 48)) throw std::invalid_argument("a capacity of more than 2^48 entries");
        if (capacity) reserve(capacity);
    }

    // All of it or, if it throws invalid_argument, nothing.
    void update(uint32_t version, const uint64_t* supervoxels, const uint64_t* bodies, size_t n) {
        if (version > MAX_VERSION) throw std::invalid_argument("a version beyond 2^31 - 2");
        for (size_t i = 0; i < n; ++i)
            if (supervoxels[i] == 0) throw std::invalid_argument("supervoxel 0 is background and cannot be mapped");
        WriteLock lock(*this);
        if (n > SHARDS) reserve(n);
        uint64_t hashes[BATCH];
        for (size_t first = 0; first < n; first += BATCH) {
            const size_t count = std::min(BATCH, n - first);
            for (size_t i = 0; i < count; ++i) hashes[i] = prefetch(supervoxels[first + i]);
            for (size_t i = 0; i < count; ++i) set(hashes[i], supervoxels[first + i], version, bodies[first + i]);
        }
    }

    void lookup(const uint64_t* labels, size_t n, const uint32_t* rank, size_t ranks, uint64_t* out) const {
        ReadLock lock(*this);
        uint64_t hashes[BATCH], batch[BATCH];
        for (size_t first = 0; first < n; first += BATCH) {
            const size_t count = std::min(BATCH, n - first);
            std::memcpy(batch, labels + first, count * sizeof *batch);  // `out` may be `labels`
            for (size_t i = 0; i < count; ++i) hashes[i] = prefetch(batch[i]);
            for (size_t i = 0; i < count; ++i) {
                const Slot* slot = batch[i] ? shard_of(hashes[i]).find(hashes[i], batch[i]) : nullptr;
                uint64_t body = batch[i];
                if (slot) resolve(*slot, rank, ranks, body);
                out[first + i] = body;
            }
        }
    }

    // out[i] is 1 where labels[i] has a visible entry, be it identity, else 0.
    void mapped(const uint64_t* labels, size_t n, const uint32_t* rank, size_t ranks, uint8_t* out) const {
        ReadLock lock(*this);
        uint64_t hashes[BATCH];
        for (size_t first = 0; first < n; first += BATCH) {
            const size_t count = std::min(BATCH, n - first);
            for (size_t i = 0; i < count; ++i) hashes[i] = prefetch(labels[first + i]);
            for (size_t i = 0; i < count; ++i) {
                const uint64_t label = labels[first + i];
                const Slot* slot = label ? shard_of(hashes[i]).find(hashes[i], label) : nullptr;
                uint64_t body;
                out[first + i] = slot && resolve(*slot, rank, ranks, body);
            }
        }
    }

    // The visible (supervoxel, body) pairs that are not identity, ascending.
    void items(const uint32_t* rank, size_t ranks, std::vector<std::pair<uint64_t, uint64_t>>& out) const {
        {
            ReadLock lock(*this);
            for (const Shard& shard : shards_) {
                for (const Slot& slot : shard.slots) {
                    // A copy, as no reference may be bound to a field of a packed slot.
                    const uint64_t supervoxel = slot.supervoxel;
                    uint64_t body = supervoxel;
                    if (body && resolve(slot, rank, ranks, body) && body != supervoxel)
                        out.emplace_back(supervoxel, body);
                }
            }
        }
        std::sort(out.begin(), out.end());
    }

    // The number of entries of each version that has some.
    void entries(std::unordered_map<uint32_t, uint64_t>& out) const {
        ReadLock lock(*this);
        for (const Shard& shard : shards_)
            for (const Slot& slot : shard.slots)
                if (slot.supervoxel && slot.version != CHAINED) ++out[uint32_t(slot.version)];
        for (const Link& entry : links_) ++out[entry.version];
    }

    uint64_t size() const {
        ReadLock lock(*this);
        uint64_t total = 0;
        for (const Shard& shard : shards_) total += shard.used;
        return total;
    }

    uint64_t bytes() const {
        ReadLock lock(*this);
        uint64_t total = sizeof *this + links_.capacity() * sizeof(Link);
        for (const Shard& shard : shards_) total += shard.slots.capacity() * sizeof(Slot);
        return total;
    }

  private:
    static constexpr size_t SHARDS = 64;
    static constexpr size_t BATCH = 16;  // look-ups whose cache misses overlap
    static constexpr uint32_t CHAINED = 0xffffffff;
    static constexpr uint32_t END = 0xffffffff;

#pragma pack(push, 4)
    struct Slot {
        uint64_t supervoxel;  // 0: empty
        uint64_t body;        // of `version`; the first link if `version` is CHAINED
        uint32_t version;
    };
#pragma pack(pop)
    static_assert(sizeof(Slot) == 20, "24 bytes would cost 10 million entries 60 MB");

    struct Link {
        uint64_t body;
        uint32_t version, next;
    };

    struct Shard {
        std::vector<Slot> slots;
        uint64_t used = 0;

        void allocate(uint64_t capacity) { slots.assign(capacity, Slot{0, 0, 0}); }

        // The shard takes the top 6 bits of a hash, so the place within comes from the ones below.
        uint64_t home(uint64_t hash) const {
            return uint64_t((static_cast<unsigned __int128>(hash << 6) * slots.size()) >> 64);
        }

        const Slot* find(uint64_t hash, uint64_t supervoxel) const {
            if (slots.empty()) return nullptr;
            for (uint64_t i = home(hash);; i = i + 1 < slots.size() ? i + 1 : 0) {
                if (slots[i].supervoxel == supervoxel) return &slots[i];
                if (slots[i].supervoxel == 0) return nullptr;
            }
        }

        Slot& place(uint64_t hash, uint64_t supervoxel) {
            uint64_t i = home(hash);
            while (slots[i].supervoxel != supervoxel && slots[i].supervoxel != 0) i = i + 1 < slots.size() ? i + 1 : 0;
            return slots[i];
        }
    };

    // Writers go first: glibc's shared_mutex prefers readers, and a steady stream of them would shut a writer out. A
    // writer that waits holds the gate, which every new reader has to pass.
    struct ReadLock {
        explicit ReadLock(const MappingTable& table) : lock_(table.mutex_, std::defer_lock) {
            std::lock_guard<std::mutex> pass(table.gate_);
            lock_.lock();
        }
        std::shared_lock<std::shared_mutex> lock_;
    };
    struct WriteLock {
        explicit WriteLock(const MappingTable& table) : gate_(table.gate_), lock_(table.mutex_) {}
        std::lock_guard<std::mutex> gate_;
        std::lock_guard<std::shared_mutex> lock_;
    };

    uint64_t hash_of(uint64_t supervoxel) const { return mix(supervoxel, seed_); }

    const Shard& shard_of(uint64_t hash) const { return shards_[hash >> 58]; }
    Shard& shard_of(uint64_t hash) { return shards_[hash >> 58]; }

    uint64_t prefetch(uint64_t supervoxel) const {
        const uint64_t hash = hash_of(supervoxel);
        const Shard& shard = shard_of(hash);
        if (!shard.slots.empty()) __builtin_prefetch(&shard.slots[shard.home(hash)]);
        return hash;
    }

    // Makes room for `added` entries more, as if none of them was there already.
    void reserve(uint64_t added) {
        // A few per cent more than the mean, as hashing does not fill the shards evenly.
        const uint64_t each = added / SHARDS + added / SHARDS / 32 + 16;
        for (Shard& shard : shards_) make_room(shard, shard.used + each);
    }

    void make_room(Shard& shard, uint64_t entries) {
        const uint64_t now = shard.slots.size();
        if (entries <= now / 4 * 3) return;
        Shard larger;
        larger.allocate(std::max(now + now / 4, entries / 3 * 4 + 4));
        for (const Slot& slot : shard.slots)
            if (slot.supervoxel) larger.place(hash_of(slot.supervoxel), slot.supervoxel) = slot;
        shard.slots = std::move(larger.slots);
    }

    void set(uint64_t hash, uint64_t supervoxel, uint32_t version, uint64_t body) {
        Shard& shard = shard_of(hash);
        make_room(shard, shard.used + 1);
        Slot& slot = shard.place(hash, supervoxel);
        if (slot.supervoxel == 0) {
            slot = {supervoxel, body, version};
            ++shard.used;
        } else if (slot.version == version) {
            slot.body = body;
        } else if (slot.version != CHAINED) {
            const uint32_t first = link(version, body, END);
            slot.body = link(slot.version, slot.body, first);
            slot.version = CHAINED;
        } else {
            uint32_t at = uint32_t(slot.body);
            while (links_[at].version != version && links_[at].next != END) at = links_[at].next;
            if (links_[at].version == version) {
                links_[at].body = body;
            } else {
                const uint32_t added = link(version, body, END);  // may move links_
                links_[at].next = added;
            }
        }
    }

    uint32_t link(uint32_t version, uint64_t body, uint32_t next) {
        if (links_.size() >= END) throw std::length_error("more than 2^32 - 1 mappings in further versions");
        links_.push_back({body, version, next});
        return uint32_t(links_.size() - 1);
    }

    // Sets `body` to that of the nearest visible version; false, and `body` as it was, if none is visible.
    bool resolve(const Slot& slot, const uint32_t* rank, size_t ranks, uint64_t& body) const {
        if (slot.version != CHAINED) {
            if (slot.version >= ranks || rank[slot.version] == 0) return false;
            body = slot.body;
            return true;
        }
        uint32_t nearest = 0;
        for (uint32_t at = uint32_t(slot.body); at != END; at = links_[at].next) {
            const Link& entry = links_[at];
            if (entry.version < ranks && rank[entry.version] > nearest) {
                nearest = rank[entry.version];
                body = entry.body;
            }
        }
        return nearest != 0;
    }

    uint64_t seed_;
    std::array<Shard, SHARDS> shards_;
    std::vector<Link> links_;
    mutable std::mutex gate_;
    mutable std::shared_mutex mutex_;
};

}  // namespace dvidcore
