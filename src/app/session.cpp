#include "app/session.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/anomaly_mode.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <thread>
#include <utility>

#include "lab/comm/agreement.h"
#include "lab/core/debugging.h"
#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/signals.h"
#include "lab/core/version.h"

namespace lab {

Failure failure_of(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return {ours->code(), ours->what()};
  if (const auto* full = dynamic_cast<const c10::OutOfMemoryError*>(&error))
    return {ExitCode::unavailable,
            text("the GPU's memory is full; take more ranks, a smaller batch_size, or the same in parts "
                 "(trainer.init.accumulate_grad_batches): ",
                 full->what_without_backtrace())};
  if (const auto* torchs = dynamic_cast<const c10::Error*>(&error))  // its what() ends with a stack trace
    return {ExitCode::bug,
            text("torch: ", torchs->what_without_backtrace(), "; do the model's shapes fit its input?")};
  return {ExitCode::bug, text("unexpected error: ", error.what())};
}

namespace {

// What the others of a job know only if this rank, which has it, tells them.
Failure own_failure(const Session& session, const std::exception& error) {
  Failure failure = failure_of(error);
  const int rank = session.world.rank();
  if (session.world.size() > 1)
    failure.message = text(rank == 0 ? "rank 0: " : "", failure.message, " (on ", host_name(), ", ",
                           where(session.world.heartbeat().own()), ")");
  return failure;
}

}  // namespace

void leave_job(Session& session, const std::exception* error) {
  if (error && session.group) session.group->resign();
  agree(*session.parting, [&] {
    if (!error || dynamic_cast<const PeerResigned*>(error)) return;
    const Failure failure = own_failure(session, *error);
    throw Error(failure.code, failure.message);
  });
}

const Failure& say_failure(Session& session, const std::exception& error) {
  if (session.failure) return *session.failure;
  const bool agreed = dynamic_cast<const AgreedError*>(&error) != nullptr;
  if (session.parting && !agreed) try {
      leave_job(session, &error);
    } catch (const AgreedError& everyones) {
      return say_failure(session, everyones);
    }
  session.failure = failure_of(error);
  const std::string& message = session.failure->message;
  if (agreed) {
    if (session.world.rank() == 0) session.log.error(message);
    return *session.failure;
  }
  Heartbeat& heartbeat = session.world.heartbeat();
  heartbeat.last_word(message);
  if (session.world.size() == 1) {
    session.log.error(message);
  } else if (heartbeat.first_to_speak()) {
    session.log.error(message, " (rank ", session.world.rank(), " on ", host_name(), ", ",
                      where(heartbeat.own()), ")");
    heartbeat.has_spoken();
  }
  return *session.failure;
}

void look_into(Session& session, const std::exception& error, const std::string& details) {
  if (!session.line.debug || std::exchange(session.looked_into, true)) return;
  const Failure failure = failure_of(error);
  const bool is_mistake = failure.code == ExitCode::usage || failure.code == ExitCode::bad_config;
  const bool is_everyones = dynamic_cast<const AgreedError*>(&error) != nullptr;
  if (is_everyones && (is_mistake || session.world.rank() != 0)) return;
  session.log.warn("--debug: ", failure.message, "\n", details.empty() ? "" : "in ", details,
                   recent_throws());
  wait_for_debugger(session.log);
}

ExitCode for_each_config(Session& session, const std::function<ExitCode()>& work) {
  if (session.line.configs.empty()) return work();
  ExitCode first = ExitCode::done;
  const bool speaks = session.world.rank() == 0;
  for (const auto& config : session.line.configs) {
    session.line.config = config;
    if (speaks) session.log.result(text("# ", config, "\n"));
    ExitCode code = ExitCode::done;
    try {
      code = work();
    } catch (const AgreedError& e) {
      if (speaks) session.log.error(e.what());
      code = e.code();
    }
    if (first == ExitCode::done) first = code;
  }
  return first;
}

namespace {

// Options that ask a question instead of starting a run. True: it was answered.
bool answer(const CommandLine& line, Program program, const std::vector<Experiment>& experiments,
            bool speaks) {
  if (!line.help && !line.version && !(line.help_config && line.config.empty())) return false;
  if (!speaks) return true;
  if (line.help)
    std::cout << help_text(program);
  else if (line.version)
    std::cout << program_name(program) << " " << version << "\n";
  else
    std::cout << config_help(experiments, "");
  std::cout << std::flush;
  return true;
}

// Of the same code, and asked for the same: else even the collectives to come may differ. Collective;
// AgreedError.
void require_same_program(Session& session) {
  const std::array<AgreedPart, 2> parts = {
      {{"program", text(program_name(session.program), " of lab ", version, "\nbuilt for torch ",
                        TORCH_VERSION, "\nbuild ", build_id())},
       {"command line", join(std::span(session.argv).subspan(1), "\n")}}};
  require_equal(session.comm(), parts);
}

// An error of this rank alone, as far as it knows: it ends all.
int end_all(Session& session, const Failure& failure) {
  Heartbeat& heartbeat = session.world.heartbeat();
  if (session.world.size() == 1) {
    session.world.leave();
    return static_cast<int>(failure.code);
  }
  for (int i = 0; i < 100 && !heartbeat.was_spoken(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  session.world.abort(failure.code);
}

ExitCode print_config(Session& session, const std::vector<Experiment>& experiments) {
  const CommandLine& line = session.line;
  const RunConfig config = load_run_config(session.comm(), line.config, line.sets, experiments);
  if (session.comm().rank() != 0) return ExitCode::done;
  std::cout << (line.print_config ? to_toml(config.resolved, true)
                                  : config_help(experiments, config.experiment_name))
            << std::flush;
  return ExitCode::done;
}

// Jobs of one rank each may be alone among several ranks.
Backend backend_for_all(const CommandLine& line, int ranks) {
  const bool each_alone = ranks <= static_cast<int>(line.configs.size());
  return line.backend == Backend::self && each_alone ? Backend::automatic : line.backend;
}

int guarded(Session& session, const std::function<ExitCode(Session&)>& work) {
  try {
    const ExitCode code = work(session);
    session.world.leave();
    return static_cast<int>(code);
  } catch (const AgreedError& e) {
    look_into(session, e, "");
    say_failure(session, e);
    session.world.leave();
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    look_into(session, e, "");
    say_failure(session, e);
    return end_all(session, failure_of(e));
  }
}

}  // namespace

int run_session(Program program, int argc, char** argv, const std::vector<Experiment>& experiments,
                const std::function<ExitCode(Session&)>& work) {
  start_process();
  const Launch launch = detect_launch();
  const bool speaks = launch.rank_hint == 0;
  const std::vector<std::string> words(argv, argv + argc);
  try {
    const CommandLine line = parse_command_line(program, argc, argv);
    if (answer(line, program, experiments, speaks)) return 0;
    if (line.debug) keep_throws();
    // Slurm sends SIGTERM twice where it preempts or ends a job's time, seconds apart on a busy node.
    if (program == Program::train)
      catch_stop_signals(std::chrono::milliseconds(launch.slurm.empty() ? 100 : 5000));
    World world = launch.by_mpi ? World::join(&argc, &argv) : World::alone();
    const Log log(world.rank(), world.size());
    std::unique_ptr<Communicator> comm;
    try {
      comm = world.communicator(backend_for_all(line, world.size()), log);
    } catch (const Error& e) {  // the same on every rank
      if (world.rank() == 0) log.error(e.what());
      world.leave();
      return static_cast<int>(e.code());
    }
    Session session{program, line,
                    words,   launch,
                    world,   std::move(comm),
                    log,     std::make_unique<Watchdog>(world.heartbeat(), log)};
    limit_hangs(session, HangLimits().least);
    return guarded(session, [&](Session& s) {
      require_same_program(s);
      s.cores = share_cores(s.comm(), s.launch);
      if (line.print_config || line.help_config)
        return for_each_config(s, [&] { return print_config(s, experiments); });
      return work(s);
    });
  } catch (const Error& e) {
    // The launcher ends the job at the first rank that fails: the one that speaks must be first.
    if (speaks)
      Log().error(e.what());
    else
      std::this_thread::sleep_for(std::chrono::seconds(1));
    return static_cast<int>(e.code());
  }
}

void limit_hangs(Session& session, double seconds) {
  session.watchdog->limit({.least = session.line.debug ? 0 : seconds});
}

namespace {

// How many ranks share this machine's memory. Collective.
int64_t ranks_of_node(Communicator& comm) {
  std::vector<int64_t> hosts(static_cast<size_t>(comm.size()), 0);
  const auto mine = static_cast<int64_t>(std::hash<std::string>()(host_name()));
  hosts[static_cast<size_t>(comm.rank())] = mine;
  comm.all_gather({hosts.data(), comm.size(), DType::i64});
  return std::count(hosts.begin(), hosts.end(), mine);
}

}  // namespace

std::vector<std::shared_ptr<const Source>> open_sources(Communicator& comm,
                                                        const std::vector<Dataset>& datasets) {
  std::map<std::string, FileLayout> layouts;
  for (const auto& dataset : datasets)
    for (const std::string& path : dataset.files()) {
      if (layouts.contains(path)) continue;
      std::string layout;
      agree(comm, [&] {
        if (comm.rank() == 0) layout = to_text(read_layout_in_helper(path));
      });
      layout = broadcast_bytes(comm, layout);
      layouts.emplace(path, layout_from_text(layout));
    }
  const bool caches = std::any_of(datasets.begin(), datasets.end(), [](const auto& d) { return d.caches(); });
  const int64_t sharing = caches ? ranks_of_node(comm) : 1;
  std::vector<std::shared_ptr<const Source>> sources;
  agree(comm, [&] { sources = open_datasets(datasets, layouts, sharing); });
  return sources;
}

void require_ranks(int ranks, const TrainerOptions& options) {
  const auto* devices = std::get_if<int64_t>(&options.devices);
  if (devices && *devices * options.num_nodes != ranks)
    throw ConfigError("trainer.init.devices = ", *devices, " on num_nodes = ", options.num_nodes, " are ",
                      *devices * options.num_nodes, " ranks, but ", ranks, ranks == 1 ? " was" : " were",
                      " started; start as many, or leave both out: mpirun or Slurm say how many there are");
}

namespace {

// Before a GPU is used: its libraries look at some of it once.
void set_up_torch(const TrainerOptions& options) {
  const auto* words = std::get_if<std::string>(&options.deterministic);
  const bool deterministic = words || std::get<bool>(options.deterministic);
  if (deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);  // as torch asks for
  auto& torch = at::globalContext();
  torch.setDeterministicAlgorithms(deterministic, words != nullptr);
  torch.setBenchmarkCuDNN(options.benchmark);
  torch.setFloat32MatmulPrecision(options.matmul_precision);
  torch::autograd::AnomalyMode::set_enabled(options.detect_anomaly);
}

}  // namespace

Device start_computing(Session& session, const TrainerOptions& options, int64_t threads) {
  Device device;
  agree(session.comm(), [&] {
    require_ranks(session.world.size(), options);
    set_up_torch(options);
    device = choose_device(options.accelerator, session.line.gpus, session.world.local_rank());
  });
  const char* shared = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");  // NCCL's own leave for it
  session.group = session.world.on_device(std::move(session.group), device, session.line.backend,
                                          shared && shared == std::string_view("1"));
  const int count = threads > 0 ? static_cast<int>(threads) : session.cores;
  at::set_num_threads(count);
  session.log.info("lab ", version, ": ", session.comm().size(),
                   session.comm().size() == 1 ? " rank" : " ranks", ", backend ", session.comm().name(), ", ",
                   count, count == 1 ? " thread" : " threads", " per rank, ", device.description, ", ",
                   options.numerics, " numerics, ", options.precision);
  return device;
}

}  // namespace lab
