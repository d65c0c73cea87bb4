// Holds operations of the device against the CPU backend: the same call on both, with inputs rounded to the device's
// dtype, and on the device twice.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "device.h"

namespace parity {

using namespace wideseek;

using Floats = std::vector<float>;
using Integers = std::vector<int32_t>;

// " 4096x2560"
inline std::string size_text(std::initializer_list<int64_t> numbers) {
  std::string text;
  for (const int64_t number : numbers) {
    text += text.empty() ? ' ' : 'x';
    text += std::to_string(number);
  }
  return text;
}

inline const char* dtype_name(DType dtype) { return dtype == DType::kBFloat16 ? "bf16" : "fp32"; }

// Nearly normal numbers of variance 1, the sum of four uniform ones: hundreds of millions are drawn for real sizes.
inline Floats values(uint64_t stream, int64_t count) {
  Floats all(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    uint64_t x = (stream << 40) + static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u;  // splitmix64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    const auto sum = static_cast<float>((x & 0xffff) + ((x >> 16) & 0xffff) + ((x >> 32) & 0xffff) + (x >> 48));
    all[static_cast<size_t>(i)] = (sum / 65536 - 2) * 1.7320508f;
  }
  return all;
}

inline Integers integers(uint64_t stream, int64_t count, int64_t below) {
  Integers all;
  for (const float value : values(stream, count)) {
    all.push_back(static_cast<int32_t>(std::bit_cast<uint32_t>(value) % static_cast<uint64_t>(below)));
  }
  return all;
}

// Memory of a backend with elements of one type, allocated with one to spare: none is no allocation.
class Array {
 public:
  Array(Backend& backend, DType dtype, const Floats& floats)
      : backend_(&backend),
        dtype_(dtype),
        count_(static_cast<int64_t>(floats.size())),
        memory_(backend, (count_ + 1) * dtype_bytes(dtype)) {
    std::vector<std::byte> stored(static_cast<size_t>(count_ * dtype_bytes(dtype)));
    convert_from_float(floats.data(), stored.data(), dtype, count_);
    if (count_ > 0) backend.upload(memory_.get(), stored.data(), static_cast<int64_t>(stored.size()));
  }
  operator TypedPointer() const { return pointer(); }
  operator ConstTypedPointer() const { return pointer(); }
  TypedPointer pointer() const { return {memory_.get(), dtype_}; }
  TypedPointer operator+(int64_t elements) const { return pointer() + elements; }
  float* fp32() const { return pointer().fp32(); }
  DType dtype() const { return dtype_; }
  Floats read() const { return read(0, count_); }
  Floats read(int64_t first, int64_t count) const {
    std::vector<std::byte> stored(static_cast<size_t>(count * dtype_bytes(dtype_)));
    Floats floats(static_cast<size_t>(count));
    if (count > 0) backend_->download(stored.data(), (*this + first).data, static_cast<int64_t>(stored.size()));
    convert_to_float(stored.data(), dtype_, floats.data(), count);
    return floats;
  }
  void zero(int64_t first, int64_t count) const { backend_->zero((*this + first).data, count * dtype_bytes(dtype_)); }

 private:
  Backend* backend_;
  DType dtype_;
  int64_t count_;
  DeviceArray<std::byte> memory_;
};

// What an output owes to the CPU's.
enum class Promise {
  kSameBits,  // in fp32; in bf16 the same sums, rounded once
  kSums,      // sums in another order: 1e-5 of the largest element, and in bf16 the rounding of the result
  kRounded,   // as kSums in fp32; in bf16, factors inside are rounded too: three roundings of 2^-8, of the whole's norm
};

struct Output {
  Output(const char* name_, const Array& array, Promise promise_)
      : name(name_), floats(array.read()), dtype(array.dtype()), promise(promise_) {}
  std::string name;
  Floats floats;
  DType dtype;  // as stored
  Promise promise;
};
using Outputs = std::vector<Output>;

// Where an operation runs, and how its arrays are made there.
class Side {
 public:
  // Inputs are rounded to `values_of`, whatever the backend keeps.
  Side(Backend& backend_, DType values_of) : backend(backend_), values_of_(values_of) {}
  Array activations(Floats floats) const {
    for (float& value : floats) {
      if (values_of_ == DType::kBFloat16) value = bf16_to_float(float_to_bf16(value));
    }
    return {backend, backend.activation_dtype(), floats};
  }
  Array floats(const Floats& floats) const { return {backend, DType::kFloat32, floats}; }
  // To be overwritten: NaN, so that what is left out shows.
  Array blank(int64_t count) const { return {backend, backend.activation_dtype(), nans(count)}; }
  Array blank_floats(int64_t count) const { return {backend, DType::kFloat32, nans(count)}; }
  DeviceArray<int32_t> integers(const Integers& numbers) const {
    DeviceArray<int32_t> array(backend, static_cast<int64_t>(numbers.size()) + 1);
    if (!numbers.empty()) backend.upload(array.get(), numbers.data(), static_cast<int64_t>(numbers.size()) * 4);
    return array;
  }
  std::unique_ptr<Weight> weight(int64_t rows, int64_t cols, const Floats& floats) const {
    auto made = backend.create_weight(rows, cols, values_of_);
    const Array source = this->floats(floats);
    backend.store_weight(*made, 0, rows, source.fp32());
    return made;
  }
  DType values_of() const { return values_of_; }
  Backend& backend;

 private:
  static Floats nans(int64_t count) {
    return Floats(static_cast<size_t>(count), std::numeric_limits<float>::quiet_NaN());
  }
  DType values_of_;
};

using Operation = std::function<Outputs(const Side&)>;

inline bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline void report(const std::string& what, const std::string& problem) { check::fail(what.c_str(), 0, problem); }

// ||a - b|| <= limit ||b||; NaN fails.
inline void compare_norms(const std::string& what, const Floats& got, const Floats& want, double limit) {
  double squares = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squares += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    norm += double{want[i]} * want[i];
  }
  if (std::sqrt(squares) <= limit * std::sqrt(norm)) return;
  report(what, "differs by " + std::to_string(std::sqrt(squares / norm)) + " of its norm");
}

inline void compare(const std::string& what, const Output& got, const Output& want) {
  if (got.floats.size() != want.floats.size()) return report(what, "sizes differ");
  const bool half = got.dtype == DType::kBFloat16;
  if (half && got.promise == Promise::kRounded) return compare_norms(what, got.floats, want.floats, 3.0 / 256);
  double largest = 0;
  for (const float value : want.floats) {
    if (std::isfinite(value)) largest = std::max(largest, std::fabs(double{value}));
  }
  const bool same_sums = got.promise == Promise::kSameBits;
  // bf16 of the same sums may still turn at the last bit where a result cancelled before it was rounded.
  const double of_sums = same_sums ? (half ? 1e-6 * largest : 0.0) : 1e-5 * largest, of_result = half ? 1.01 / 256 : 0;
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < want.floats.size(); ++i) {
    const double a = got.floats[i], b = want.floats[i];
    if (a == b || std::fabs(a - b) <= of_sums + of_result * std::fabs(b)) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return;
  report(what, std::to_string(wrong) + " of " + std::to_string(want.floats.size()) + " differ; [" +
                   std::to_string(first) + "] is " + std::to_string(got.floats[first]) + ", want " +
                   std::to_string(want.floats[first]));
}

// The device gives what the CPU gives, and twice the same bits.
inline void check_operation(const std::string& name, DType dtype, const Operation& operation) {
  const auto device = device::create(dtype), cpu = create_backend("cpu", device::cpu_threads());
  const auto [got, again] = device::twice([&] { return operation(Side(*device, dtype)); });
  const Outputs want = operation(Side(*cpu, dtype));
  for (size_t i = 0; i < got.size(); ++i) {
    const std::string what = name + " " + dtype_name(dtype) + " " + got[i].name;
    if (!same_bits(got[i].floats, again[i].floats)) report(what, "a second run gave other bits");
    compare(what, got[i], want[i]);
  }
}

inline void check_operation(const std::string& name, const Operation& operation) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) check_operation(name, dtype, operation);
}

// Computes rows [first, first + count) into zeros, and returns them.
using Rows = std::function<Floats(int64_t first, int64_t count)>;

// However many rows are computed at a time, their bits are those of all `total` rows together, `width` elements each.
// `prepare` makes the arrays on a side and calls back with how rows are computed from them.
inline void check_rows_alone(const std::string& name, int64_t total, int64_t width,
                             const std::function<void(const Side&, const std::function<void(const Rows&)>&)>& prepare) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const auto backend = device::create(dtype);
    prepare(Side(*backend, dtype), [&](const Rows& rows) {
      const Floats whole = rows(0, total);
      for (const int64_t count : {1, 7, 64, 1000}) {
        for (const int64_t first : {int64_t{0}, total / 3, total - count}) {
          if (first < 0 || first + count > total) continue;
          const Floats part = rows(first, count);
          const Floats expected(whole.begin() + first * width, whole.begin() + (first + count) * width);
          if (same_bits(part, expected)) continue;
          report(name + " " + dtype_name(dtype), "rows " + std::to_string(first) + " to " +
                                                     std::to_string(first + count - 1) + " of " +
                                                     std::to_string(total) + " have other bits when computed alone");
        }
      }
    });
  }
}

// Sizes for everywhere, and more of real models for a GPU.
template <typename T>
std::vector<T> sizes(std::initializer_list<T> everywhere, std::initializer_list<T> on_gpu) {
  std::vector<T> all(everywhere);
  if (device::is_real()) all.insert(all.end(), on_gpu);
  return all;
}

}  // namespace parity
