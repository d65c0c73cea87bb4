// Finds libcublasLt when the program runs: a named file, the loader's path, the CUDA toolkit, or the pip package.
#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <vector>

#include "base/error.h"
#include "cuda/cublaslt.h"

namespace wideseek::cuda::cublaslt {
namespace {

constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> matching(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t found{};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  ::globfree(&found);
  return paths;
}

// lib folders of Python installations: active environments, then every python3 on the path, then usual places.
std::vector<std::string> python_folders() {
  std::vector<std::string> folders;
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const std::string root = environment(variable);
    if (!root.empty()) folders.push_back(root + "/lib");
  }
  std::istringstream path(environment("PATH"));
  for (std::string bin; std::getline(path, bin, ':');) {
    std::error_code error;
    const auto python = std::filesystem::canonical(bin + "/python3", error);
    if (!error) folders.push_back((python.parent_path().parent_path() / "lib").string());
  }
  const std::string home = environment("HOME");
  if (!home.empty()) folders.push_back(home + "/.local/lib");
  folders.insert(folders.end(), {"/usr/local/lib", "/usr/lib", "/opt/conda/lib"});
  return folders;
}

// Folders of toolkits and of Python's packages, the more specific ones first.
std::vector<std::string> folder_patterns() {
  std::vector<std::string> patterns;
  const auto add = [&](std::string pattern) {
    if (std::find(patterns.begin(), patterns.end(), pattern) == patterns.end()) patterns.push_back(std::move(pattern));
  };
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const std::string root = environment(variable);
    if (!root.empty()) add(root + "/lib64");
  }
  add("/usr/local/cuda/lib64");
  add("/usr/local/cuda-*/lib64");
  for (const std::string& folder : python_folders()) add(folder + "/python3*/*-packages/nvidia/*/lib");
  return patterns;
}

std::vector<std::string> candidates() {
  const std::string named = environment("WIDESEEK_CUBLASLT");
  if (!named.empty()) return {named};  // no second guess: the user wants this one or an error
  std::vector<std::string> paths(std::begin(kNames), std::end(kNames));
  for (const std::string& pattern : folder_patterns()) {
    for (const char* name : kNames) {
      for (std::string& path : matching(pattern + "/" + name)) paths.push_back(std::move(path));
    }
  }
  return paths;
}

template <typename F>
void bind(void* file, const char* name, F*& function, const std::string& path) {
  function = reinterpret_cast<F*>(::dlsym(file, name));
  WS_CHECK(function != nullptr, kUnsupported, "cuBLASLt", path + " has no " + name + "; cuBLAS 12 or 13 is needed");
}

Library bind_all(void* file, const std::string& path) {
  Library all{};
  bind(file, "cublasLtCreate", all.create, path);
  bind(file, "cublasLtDestroy", all.destroy, path);
  bind(file, "cublasLtMatmulDescCreate", all.desc_create, path);
  bind(file, "cublasLtMatmulDescDestroy", all.desc_destroy, path);
  bind(file, "cublasLtMatmulDescSetAttribute", all.desc_set, path);
  bind(file, "cublasLtMatrixLayoutCreate", all.layout_create, path);
  bind(file, "cublasLtMatrixLayoutDestroy", all.layout_destroy, path);
  bind(file, "cublasLtMatrixLayoutSetAttribute", all.layout_set, path);
  bind(file, "cublasLtMatmulPreferenceCreate", all.preference_create, path);
  bind(file, "cublasLtMatmulPreferenceDestroy", all.preference_destroy, path);
  bind(file, "cublasLtMatmulPreferenceSetAttribute", all.preference_set, path);
  bind(file, "cublasLtMatmulAlgoGetHeuristic", all.heuristic, path);
  bind(file, "cublasLtMatmulAlgoCheck", all.algorithm_check, path);
  bind(file, "cublasLtMatmulAlgoConfigGetAttribute", all.algorithm_config, path);
  bind(file, "cublasLtMatmulAlgoCapGetAttribute", all.algorithm_cap, path);
  bind(file, "cublasLtMatmul", all.matmul, path);
  bind(file, "cublasLtGetVersion", all.version, path);
  all.path = path;
  return all;
}

}  // namespace

Library open_library() {
  std::string tried;
  for (const std::string& path : candidates()) {
    if (void* file = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return bind_all(file, path);
    tried += (tried.empty() ? "" : "; ") + std::string(::dlerror());
  }
  std::string looked;
  if (environment("WIDESEEK_CUBLASLT").empty()) {
    looked = "; nor is it in";
    for (const std::string& pattern : folder_patterns()) looked += " " + pattern;
  }
  throw Error(ErrorCode::kUnsupported, "cuBLASLt",
              "no cuBLASLt was found (" + tried + looked +
                  "); install it (the CUDA toolkit's libcublas, or `pip install nvidia-cublas-cu12`), or set "
                  "WIDESEEK_CUBLASLT to libcublasLt.so.12 or .13");
}

}  // namespace wideseek::cuda::cublaslt
