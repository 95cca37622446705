#include "track/curl.h"

#include "lab/core/error.h"
#include "lab/core/library.h"

namespace lab::detail {
namespace {

// By the name that is in the system's list, else where it was when lab was built.
void* open_library() {
  for (const char* name : {"libcurl.so.4", LAB_CURL})
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  const char* reason = dlerror();
  throw Unavailable("the HTTP library libcurl can't be loaded: ", reason ? reason : "no reason is given",
                    "; install it (Debian: libcurl4)");
}

Curl load() {
  void* library = open_library();
  Curl curl;
  const bool whole = find(library, "curl_global_init", curl.global_init) &&
                     find(library, "curl_easy_init", curl.easy_init) &&
                     find(library, "curl_easy_cleanup", curl.easy_cleanup) &&
                     find(library, "curl_easy_reset", curl.easy_reset) &&
                     find(library, "curl_easy_setopt", curl.easy_setopt) &&
                     find(library, "curl_easy_getinfo", curl.easy_getinfo) &&
                     find(library, "curl_multi_init", curl.multi_init) &&
                     find(library, "curl_multi_cleanup", curl.multi_cleanup) &&
                     find(library, "curl_multi_add_handle", curl.multi_add_handle) &&
                     find(library, "curl_multi_remove_handle", curl.multi_remove_handle) &&
                     find(library, "curl_multi_perform", curl.multi_perform) &&
                     find(library, "curl_multi_poll", curl.multi_poll) &&
                     find(library, "curl_multi_info_read", curl.multi_info_read) &&
                     find(library, "curl_multi_wakeup", curl.multi_wakeup) &&
                     find(library, "curl_mime_init", curl.mime_init) &&
                     find(library, "curl_mime_free", curl.mime_free) &&
                     find(library, "curl_mime_addpart", curl.mime_addpart) &&
                     find(library, "curl_mime_name", curl.mime_name) &&
                     find(library, "curl_mime_filedata", curl.mime_filedata) &&
                     find(library, "curl_mime_filename", curl.mime_filename) &&
                     find(library, "curl_slist_append", curl.slist_append) &&
                     find(library, "curl_slist_free_all", curl.slist_free_all);
  if (!whole) throw Unavailable("the HTTP library libcurl is too old; lab needs 7.68 or newer");
  if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    throw Unavailable("the HTTP library libcurl does not start; is there memory left?");
  return curl;
}

}  // namespace

const Curl& curl() {
  static const Curl loaded = load();
  return loaded;
}

}  // namespace lab::detail
