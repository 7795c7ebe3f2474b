// The protobuf wire format, as far as DVID's messages need it: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace dvidcore {

enum WireType : uint32_t { VARINT = 0, FIXED64 = 1, BYTES = 2, GROUP = 3, GROUP_END = 4, FIXED32 = 5 };

struct Field {
    uint32_t number = 0;
    uint32_t type = 0;
    uint64_t value = 0;             // of a VARINT
    const uint8_t* data = nullptr;  // of BYTES
    size_t size = 0;
};

// Reads the fields of one message one after another. Throws std::invalid_argument on anything cut short.
class WireReader {
  public:
    WireReader(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

    bool next(Field& field) {
        if (at_ == end_) return false;
        const uint64_t tag = varint();
        if (tag >> 3 == 0 || tag > 0xffffffffu) throw std::invalid_argument("protobuf: a field number out of range");
        field.number = uint32_t(tag >> 3);
        field.type = uint32_t(tag & 7);
        read(field, 0);
        return true;
    }

    bool at_end() const { return at_ == end_; }

    uint64_t varint() {
        if (at_ != end_ && *at_ < 0x80) return *at_++;
        uint64_t value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (at_ == end_) throw std::invalid_argument("protobuf: a number is cut short");
            const uint8_t byte = *at_++;
            if (shift == 63 && byte > 1) break;
            value |= uint64_t(byte & 0x7f) << shift;
            if (byte < 0x80) return value;
        }
        throw std::invalid_argument("protobuf: a number of more than 64 bits");
    }

  private:
    static constexpr int MAX_DEPTH = 100;  // of groups in groups, as in protobuf's own parsers

    const uint8_t* take(uint64_t size) {
        if (size > uint64_t(end_ - at_)) throw std::invalid_argument("protobuf: a field is cut short");
        const uint8_t* start = at_;
        at_ += size;
        return start;
    }

    void read(Field& field, int depth) {
        switch (field.type) {
            case VARINT: field.value = varint(); break;
            case FIXED64: take(8); break;
            case FIXED32: take(4); break;
            case BYTES:
                field.size = varint();
                field.data = take(field.size);
                break;
            case GROUP: skip_group(field.number, depth); break;
            default: throw std::invalid_argument("protobuf: wire type " + std::to_string(field.type));
        }
    }

    void skip_group(uint32_t number, int depth) {
        if (depth == MAX_DEPTH) throw std::invalid_argument("protobuf: groups are nested too deeply");
        for (Field inner;;) {
            const uint64_t tag = varint();
            if (tag >> 3 == 0 || tag > 0xffffffffu) throw std::invalid_argument("protobuf: a field number out of range");
            inner.number = uint32_t(tag >> 3);
            inner.type = uint32_t(tag & 7);
            if (inner.type == GROUP_END) {
                if (inner.number != number) throw std::invalid_argument("protobuf: a group ends as another");
                return;
            }
            read(inner, depth + 1);
        }
    }

    const uint8_t* at_;
    const uint8_t* end_;
};

inline size_t varint_size(uint64_t value) { return value ? size_t(70 - __builtin_clzll(value)) / 7 : 1; }

// Appends fields to a string whose bytes are the message.
class WireWriter {
  public:
    explicit WireWriter(std::string& out) : out_(out) {}

    void varint(uint64_t value) {
        char bytes[10];
        size_t n = 0;
        for (; value > 0x7f; value >>= 7) bytes[n++] = char(value | 0x80);
        bytes[n++] = char(value);
        out_.append(bytes, n);
    }
    void number(uint32_t field, uint64_t value) {
        varint(uint64_t(field) << 3 | VARINT);
        varint(value);
    }
    // The tag and length of a field; its `size` bytes have to follow.
    void header(uint32_t field, uint64_t size) {
        varint(uint64_t(field) << 3 | BYTES);
        varint(size);
    }
    void bytes(uint32_t field, const void* data, size_t size) {
        header(field, size);
        out_.append(static_cast<const char*>(data), size);
    }

  private:
    std::string& out_;
};

}  // namespace dvidcore
