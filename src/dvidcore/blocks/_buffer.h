// A Python buffer held for the length of a C++ scope. Create and destroy it with the GIL.
#pragma once

#include <Python.h>

#include <cstdint>

namespace dvidcore {

class Buffer {
public:
    Buffer() { view_.obj = nullptr; }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer &) = delete;             // nor can it move: a view may point into itself
    Buffer &operator=(const Buffer &) = delete;

    // The bytes of any C-contiguous object. Like all below: 0, or -1 with a Python exception set.
    int bytes(PyObject *object) { return get(object, PyBUF_SIMPLE, "a C-contiguous bytes-like object is required"); }
    int writable_bytes(PyObject *object) {
        return get(object, PyBUF_SIMPLE | PyBUF_WRITABLE, "a writable C-contiguous buffer is required");
    }

    // An array with its shape, strides (in bytes, any sign) and format.
    int array(PyObject *object, bool writable) {
        return get(object, writable ? PyBUF_RECORDS : PyBUF_RECORDS_RO,
                   writable ? "a writable array is required" : "an array is required");
    }

    // A 3-d array (z, y, x) of uint64 whose x is contiguous; z and y may have any stride.
    int volume(PyObject *object, bool writable) {
        if (array(object, writable) < 0) return -1;
        if (view_.ndim != 3 || !is_unsigned64()) {
            PyErr_SetString(PyExc_ValueError, "a 3-d array (z, y, x) of uint64 is required");
            return -1;
        }
        if (view_.shape[2] > 1 && view_.strides[2] != 8) {
            PyErr_SetString(PyExc_ValueError, "the voxels of a row (x) must be contiguous");
            return -1;
        }
        return 0;
    }

    // A writable 3-d array (z, y, x) of uint8 or bool whose x is contiguous; z and y may have any stride.
    int mask(PyObject *object) {
        if (array(object, true) < 0) return -1;
        if (view_.ndim != 3 || view_.itemsize != 1) {
            PyErr_SetString(PyExc_ValueError, "a 3-d array (z, y, x) of uint8 is required");
            return -1;
        }
        if (view_.shape[2] > 1 && view_.strides[2] != 1) {
            PyErr_SetString(PyExc_ValueError, "the voxels of a row (x) must be contiguous");
            return -1;
        }
        return 0;
    }

    // A contiguous 1-d array of uint64.
    int labels(PyObject *object) {
        if (get(object, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, "a contiguous array of uint64 is required") < 0) return -1;
        if (view_.ndim != 1 || !is_unsigned64()) {
            PyErr_SetString(PyExc_ValueError, "a 1-d array of uint64 is required");
            return -1;
        }
        return 0;
    }

    uint8_t *data() const { return static_cast<uint8_t *>(view_.buf); }
    int64_t size() const { return view_.len; }
    int ndim() const { return view_.ndim; }
    int64_t itemsize() const { return view_.itemsize; }
    int64_t shape(int axis) const { return view_.shape[axis]; }
    int64_t stride(int axis) const { return view_.strides[axis]; }

private:
    Py_buffer view_{};

    int get(PyObject *object, int flags, const char *message) {
        PyBuffer_Release(&view_);
        if (PyObject_GetBuffer(object, &view_, flags) == 0) return 0;
        view_.obj = nullptr;
        // Not a buffer at all is a TypeError; a buffer of the wrong layout or read-only is a wrong value.
        if (PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError))
            PyErr_SetString(PyExc_ValueError, message);
        return -1;
    }

    bool is_unsigned64() const {
        const char *format = view_.format ? view_.format : "B";
        if (*format == '@' || *format == '=' || *format == '<') ++format;
        return view_.itemsize == 8 && (*format == 'L' || *format == 'Q') && format[1] == 0;
    }
};

}  // namespace dvidcore
