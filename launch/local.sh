#!/usr/bin/env bash
# Starts ranks on this machine: shares its processors out among them, and stops them in a way that saves.
#
#   launch/local.sh -np N lab_train CONFIG.toml [options]
#
# Ctrl-C or TERM: the ranks finish the step, save and exit with 75; once more ends them at once. The exit code is theirs.
[[ ${1-} = -np && ${2-} =~ ^[1-9][0-9]*$ && $# -ge 3 ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 64; }
ranks=$2
shift 2
PATH=$(dirname "$0")/../build:$PATH # programs built here, else installed ones

unset OMP_THREAD_LIMIT # which nproc obeys, as it does OMP_NUM_THREADS
processors=$(OMP_NUM_THREADS= nproc) # those that we may use, hardware threads counted
if [[ $ranks -gt $processors || $processors -lt $(nproc --all) ]]; then # too few for one each, or only some are ours:
  binding=(--oversubscribe --bind-to none)                              # mpirun would bind to others'
else # each rank gets its own, side by side; lab runs as many threads as a rank has processors
  binding=(--use-hwthread-cpus --map-by "slot:PE=$((processors / ranks))" --bind-to hwthread)
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # or mpirun refuses root, as in a container

# In a session of its own mpirun does not get the terminal's Ctrl-C, on which it would kill the ranks after two seconds.
# USR1 it passes on to them.
setsid mpirun -np "$ranks" "${binding[@]}" "$@" </dev/null &
mpirun=$!
trap 'again=yes; kill -USR1 $mpirun' INT TERM HUP USR1
again=yes
while [ -n "$again" ]; do again=''; wait $mpirun; code=$?; done # a signal ends the wait, not the ranks
exit "$code"
