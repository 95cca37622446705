#pragma once
// libcurl, which comes with thirty more libraries: loaded by the rank that talks to a server, when it first
// does. Of thousands of ranks the others would look all of them up at every start.

#include <curl/curl.h>

namespace lab::detail {

struct Curl {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) easy_init = nullptr;
  decltype(&curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&curl_easy_reset) easy_reset = nullptr;
  decltype(&curl_easy_setopt) easy_setopt = nullptr;
  decltype(&curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&curl_multi_init) multi_init = nullptr;
  decltype(&curl_multi_cleanup) multi_cleanup = nullptr;
  decltype(&curl_multi_add_handle) multi_add_handle = nullptr;
  decltype(&curl_multi_remove_handle) multi_remove_handle = nullptr;
  decltype(&curl_multi_perform) multi_perform = nullptr;
  decltype(&curl_multi_poll) multi_poll = nullptr;
  decltype(&curl_multi_info_read) multi_info_read = nullptr;
  decltype(&curl_multi_wakeup) multi_wakeup = nullptr;
  decltype(&curl_mime_init) mime_init = nullptr;
  decltype(&curl_mime_free) mime_free = nullptr;
  decltype(&curl_mime_addpart) mime_addpart = nullptr;
  decltype(&curl_mime_name) mime_name = nullptr;
  decltype(&curl_mime_filedata) mime_filedata = nullptr;
  decltype(&curl_mime_filename) mime_filename = nullptr;
  decltype(&curl_slist_append) slist_append = nullptr;
  decltype(&curl_slist_free_all) slist_free_all = nullptr;
};

// Loaded and started once, kept until the program ends. Throws Unavailable where it is not there or does not
// start. Any thread.
const Curl& curl();

}  // namespace lab::detail
