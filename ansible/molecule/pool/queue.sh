#!/bin/sh
# The queue of the pool on this host, as the user alice.
#   queue submit COMMAND [SUBMIT LINE ...]   prints the job's number; it must run on the worker WORKER
#   queue show JOB                           status, starts, exit code (5 is gone from the queue)
#   queue machine NODE ATTRIBUTE ...         what the collector knows
set -eu
in_pool() { PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman exec "$@"; }
case $1 in
  submit)
    script=$2; shift 2
    {
      echo 'executable = /bin/sh'; echo 'transfer_executable = false'
      printf 'arguments = "-c '"'%s'"'"\n' "$script"
      echo 'output = /tmp/out.$(Cluster)'; echo 'should_transfer_files = yes'
      echo 'request_cpus = 1'; echo 'request_memory = 32'; echo 'request_disk = 1MB'
      for line; do echo "$line"; done
      echo 'queue'
    } > /tmp/job.sub
    in_pool -i --user alice vacuo-pool sh -c 'cd /tmp; cat > /tmp/$$.sub; condor_submit -terse /tmp/$$.sub' \
      < /tmp/job.sub | cut -d' ' -f1 ;;
  show)
    shown=$(in_pool vacuo-pool condor_q "$2" -af JobStatus NumJobStarts ExitCode)
    [ -n "$shown" ] || shown=$(in_pool vacuo-pool condor_history "$2" -limit 1 -af JobStatus NumJobStarts ExitCode)
    echo "$shown" ;;
  output) in_pool vacuo-pool cat "/tmp/out.${2%.*}" ;;
  machine)
    node=$2; shift 2
    in_pool vacuo-pool condor_status -constraint "VacuoNode == \"$node\" && SlotType != \"Dynamic\"" -af "$@" ;;
esac
