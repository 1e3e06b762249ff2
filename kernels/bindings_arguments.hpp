// Arguments of the Python functions: with bindings.cpp all that knows Python. An argument that does
// not fit is refused without a reason: that is the Python face's to find (tensor_optix/kernels/).
// Nothing but what stands here and in bindings.cpp guards the kernels' pointers.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace nb = nanobind;
namespace tensor_optix {

inline PyObject* ndarray_type = nullptr;  // numpy.ndarray, borrowed for the life of the process

[[noreturn]] inline void refuse() {
    throw nb::type_error("the extension refuses an argument");
}

inline void require(bool fits) {
    if (!fits) refuse();
}

// The codes that a buffer's format has for numbers of a C++ type; a mask is uint8 or bool.
template <typename T>
constexpr const char* kCodes = "";
template <>
inline constexpr const char* kCodes<float> = "f";
template <>
inline constexpr const char* kCodes<double> = "d";
template <>
inline constexpr const char* kCodes<std::int32_t> = "il";
template <>
inline constexpr const char* kCodes<std::int64_t> = "lq";
template <>
inline constexpr const char* kCodes<std::uint64_t> = "LQ";
template <>
inline constexpr const char* kCodes<std::uint8_t> = "B?";

template <typename T>
bool holds(const Py_buffer& view) {
    const char* format = view.format;
    // NumPy writes these before the code of an unaligned array; '>' and '<', the foreign byte
    // order, stay and match nothing.
    if (format[0] == '=' || format[0] == '^' || format[0] == '@') ++format;
    return format[0] != '\0' && format[1] == '\0' && view.itemsize == sizeof(T) &&
           std::strchr(kCodes<T>, format[0]) != nullptr;
}

// An array with the number of axes that was asked for.
template <typename T>
struct Ranked {
    T* data;
    const Py_ssize_t* shape;

    std::size_t length(int axis = 0) const {
        return static_cast<std::size_t>(shape[axis]);
    }
};

// The arrays of one call, held as long as this lives. Those of a `const` type are read, the others
// written.
class Arguments {
  public:
    explicit Arguments(std::size_t count = 16) {
        arrays_.reserve(count);
    }
    Arguments(const Arguments&) = delete;
    ~Arguments() {
        for (Opened& array : arrays_) PyBuffer_Release(&array.view);
    }

    // An array of any dtype.
    template <typename Byte>
    const Py_buffer& open(nb::handle object) {
        constexpr bool written = !std::is_const_v<Byte>;
        constexpr int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (written ? PyBUF_WRITABLE : 0);
        require(PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(ndarray_type)));
        Opened& array = arrays_.emplace_back();
        if (PyObject_GetBuffer(object.ptr(), &array.view, flags) != 0) {
            PyErr_Clear();
            refuse();
        }
        array.begin = static_cast<const std::uint8_t*>(array.view.buf);
        array.end = array.begin + array.view.len;
        array.written = written;
        return array.view;
    }

    template <typename T>
    Ranked<T> ranked(nb::handle object, int ndim) {
        const Py_buffer& view = open<T>(object);
        require(holds<std::remove_const_t<T>>(view) && view.ndim == ndim);
        // As NumPy sees it, an array of no elements is aligned anywhere.
        require(view.len == 0 || reinterpret_cast<std::uintptr_t>(view.buf) % sizeof(T) == 0);
        return {static_cast<T*>(view.buf), view.shape};
    }

    template <typename T>
    T* array(nb::handle object, std::initializer_list<std::size_t> shape) {
        const Ranked<T> found = ranked<T>(object, static_cast<int>(shape.size()));
        int axis = 0;
        for (const std::size_t length : shape) require(found.length(axis++) == length);
        return found.data;
    }

    // A field of `count` rows with `bytes` bytes each, of any dtype.
    template <typename Byte>
    Byte* rows(nb::handle object, std::size_t count, std::size_t bytes) {
        const Py_buffer& view = open<Byte>(object);
        require(view.ndim > 0 && static_cast<std::size_t>(view.shape[0]) == count &&
                static_cast<std::size_t>(view.len) == count * bytes);
        return static_cast<Byte*>(view.buf);
    }

    // Lets the last array be the first one itself; a part of it is still refused.
    void let_last_be_first() {
        Opened &first = arrays_.front(), &last = arrays_.back();
        if (first.begin != last.begin || first.end != last.end) return;
        first.written = true;
        last.end = last.begin;
    }

    // No array that is written shares memory with another one.
    void require_disjoint() const {
        for (const Opened& a : arrays_) {
            if (!a.written) continue;
            for (const Opened& b : arrays_) require(&a == &b || !overlap(a, b));
        }
    }

  private:
    struct Opened {
        Py_buffer view{};
        const std::uint8_t* begin = nullptr;
        const std::uint8_t* end = nullptr;
        bool written = false;
    };

    static bool overlap(const Opened& a, const Opened& b) {
        return a.begin < b.end && b.begin < a.end && a.begin != a.end && b.begin != b.end;
    }

    std::vector<Opened> arrays_;
};

inline double number(nb::handle object) {
    const double value = PyFloat_AsDouble(object.ptr());
    if (value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        refuse();
    }
    return value;
}

inline double unit_number(nb::handle object) {
    const double value = number(object);
    require(value >= 0.0 && value <= 1.0);
    return value;
}

inline std::size_t whole_number(nb::handle object, Py_ssize_t least) {
    const Py_ssize_t value = PyNumber_AsSsize_t(object.ptr(), nullptr);
    if (value == -1 && PyErr_Occurred()) PyErr_Clear();
    require(value >= least);
    return static_cast<std::size_t>(value);
}

inline void require_bounds(const std::int64_t* indices, std::size_t count, std::size_t size) {
    std::size_t outside = 0;
    // Seen as unsigned, a negative index is beyond any bound.
    for (std::size_t i = 0; i < count; ++i)
        outside += static_cast<std::uint64_t>(indices[i]) >= size;
    require(outside == 0);
}

}  // namespace tensor_optix
