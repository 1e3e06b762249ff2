// Checked arguments of the Python functions: part of bindings.cpp, and with it all that knows
// Python. Arrays are read through the buffer protocol; every failure names the argument, says what
// it must be and what came.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace nb = nanobind;
namespace tensor_optix {

enum class Dtype { kFloat32, kFloat64, kInt32, kInt64, kUint64, kMask, kAny };
enum class Access { kRead, kWrite };

constexpr const char* kDtypeNames[] = {"float32", "float64",       "int32",    "int64",
                                       "uint64",  "uint8 or bool", "any dtype"};

inline PyObject* ndarray_type = nullptr;  // numpy.ndarray, borrowed for the life of the process

[[noreturn]] inline void fail(const std::string& message) {
    throw nb::value_error(message.c_str());
}

inline std::string text(nb::handle object) {
    return nb::cast<std::string>(nb::str(object));
}

inline bool matches(Dtype dtype, const char* format, Py_ssize_t size) {
    if (dtype == Dtype::kAny) return true;
    // NumPy writes these before the code of an unaligned array; '>' and '<', the foreign byte
    // order, stay and match nothing.
    if (format[0] == '=' || format[0] == '^' || format[0] == '@') ++format;
    if (format[0] == '\0' || format[1] != '\0') return false;
    const char code = format[0];
    switch (dtype) {
        case Dtype::kFloat32:
            return code == 'f';
        case Dtype::kFloat64:
            return code == 'd';
        case Dtype::kInt32:
            return size == 4 && (code == 'i' || code == 'l');
        case Dtype::kInt64:
            return size == 8 && (code == 'l' || code == 'q');
        case Dtype::kUint64:
            return size == 8 && (code == 'L' || code == 'Q');
        default:
            return code == 'B' || code == '?';
    }
}

inline std::string shape_text(const Py_ssize_t* shape, int ndim) {
    std::string out = "(";
    for (int i = 0; i < ndim; ++i) {
        out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    }
    return out + (ndim == 1 ? ",)" : ")");
}

// One array argument. Holds the buffer as long as it lives; every failure names the argument.
class Array {
  public:
    Array(nb::handle object, const char* name, int index = -1) : name_(name), index_(index) {
        if (!PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(ndarray_type))) {
            throw nb::type_error(
                (name_text() + " must be a NumPy array, got " + Py_TYPE(object.ptr())->tp_name)
                    .c_str());
        }
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
            PyErr_Clear();
            fail(name_text() + " must have a dtype with a plain layout, got " + dtype_text(object));
        }
    }
    Array(const Array&) = delete;
    Array(Array&& other) noexcept : view_(other.view_), name_(other.name_), index_(other.index_) {
        other.view_ = Py_buffer{};
    }
    ~Array() {
        PyBuffer_Release(&view_);
    }

    Array& check(Dtype dtype, Access access) {
        if (!matches(dtype, view_.format, view_.itemsize)) {
            fail(name_text() + " must be " + kDtypeNames[static_cast<int>(dtype)] + ", got " +
                 dtype_text(view_.obj));
        }
        if (!contiguous()) fail(name_text() + " must be C-contiguous, got a strided view");
        if (dtype != Dtype::kAny && reinterpret_cast<std::uintptr_t>(view_.buf) % view_.itemsize) {
            fail(name_text() + " must be aligned to its dtype, got an unaligned view");
        }
        if (access == Access::kWrite && view_.readonly) {
            fail(name_text() + " must be writeable, got a read-only array");
        }
        return *this;
    }

    Array& check_rank(int ndim, const char* expected) {
        if (view_.ndim != ndim) fail_shape(expected);
        return *this;
    }

    Array& check_shape(std::initializer_list<std::size_t> shape) {
        bool same = static_cast<std::size_t>(view_.ndim) == shape.size();
        int axis = 0;
        for (const std::size_t expected : shape) same = same && length(axis++) == expected;
        if (!same) {
            const std::vector<Py_ssize_t> expected(shape.begin(), shape.end());
            fail_shape(shape_text(expected.data(), int(expected.size())));
        }
        return *this;
    }

    [[noreturn]] void fail_shape(const std::string& expected) const {
        fail(name_text() + " must have shape " + expected + ", got " +
             shape_text(view_.shape, view_.ndim));
    }

    bool overlaps(const Array& other) const {
        return view_.len > 0 && other.view_.len > 0 && begin() < other.begin() + other.view_.len &&
               other.begin() < begin() + view_.len;
    }

    template <typename T>
    T* as() const {
        return static_cast<T*>(view_.buf);
    }
    std::size_t length(int axis) const {
        return static_cast<std::size_t>(view_.shape[axis]);
    }
    const std::uint8_t* begin() const {
        return as<const std::uint8_t>();
    }
    const Py_buffer& view() const {
        return view_;
    }
    std::string name_text() const {
        return index_ < 0 ? name_ : std::string(name_) + "[" + std::to_string(index_) + "]";
    }
    static nb::object dtype(nb::handle object) {
        return object.attr("dtype");
    }
    static std::string dtype_text(nb::handle object) {
        return text(dtype(object));
    }

  private:
    bool contiguous() const {
        Py_ssize_t expected = view_.itemsize;
        if (view_.len == 0) return true;
        for (int axis = view_.ndim; axis-- > 0; expected *= view_.shape[axis]) {
            if (view_.shape[axis] != 1 && view_.strides[axis] != expected) return false;
        }
        return true;
    }

    Py_buffer view_{};
    const char* name_;
    int index_;
};

inline void check_disjoint(const Array& output, std::initializer_list<const Array*> others) {
    for (const Array* other : others) {
        if (output.overlaps(*other)) {
            fail(output.name_text() + " must not share memory with " + other->name_text());
        }
    }
}

inline double number(nb::handle object, const char* name) {
    const double value = PyFloat_AsDouble(object.ptr());
    if (value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        throw nb::type_error(
            (std::string(name) + " must be a number, got " + Py_TYPE(object.ptr())->tp_name)
                .c_str());
    }
    return value;
}

inline double unit_number(nb::handle object, const char* name) {
    const double value = number(object, name);
    if (!(value >= 0.0 && value <= 1.0)) {
        fail(std::string(name) + " must be in [0, 1], got " + text(nb::float_(value)));
    }
    return value;
}

}  // namespace tensor_optix
