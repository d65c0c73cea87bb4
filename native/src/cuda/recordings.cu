// Records at the second call of a key, replays from then on.
#include "cuda/recordings.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"

namespace wideseek::cuda {

int64_t recorded_rows(int64_t rows) {
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows)));
  const int64_t between = power / 4 * 3;
  return between >= 12 && rows <= between ? between : power;
}

void Recordings::replay(uint64_t key, int64_t blocks_so_far, const std::function<void()>& work) {
  if (is_refused_ || is_recording_) return work();
  const auto [found, is_new] = all_.try_emplace(key);
  if (is_new) return work();
  if (found->second == nullptr) {
    is_recording_ = true;
    Recording recording;
    try {
      gpu_.begin_recording();
      work();
      recording = gpu_.end_recording();
    } catch (const Error&) {
      // Nothing of it has run. Whether the device is well shows when the work runs as it is.
      gpu_.abandon_recording();
      is_refused_ = true;
    }
    is_recording_ = false;
    if (is_refused_) {
      forget();
      return work();
    }
    // The work may have forgotten all, by giving memory back.
    all_[key] = std::move(recording);
    newest_block_ = std::max(newest_block_, blocks_so_far);
  } else {
    ++num_replays_;
  }
  gpu_.run(all_[key]);
}

void Recordings::forget_block(int64_t number) {
  if (number <= newest_block_) forget();
}

void Recordings::forget() {
  const bool any = std::any_of(all_.begin(), all_.end(), [](const auto& entry) { return entry.second != nullptr; });
  if (any) gpu_.finish();  // a recording that runs is not destroyed
  all_.clear();
  newest_block_ = 0;
}

}  // namespace wideseek::cuda
