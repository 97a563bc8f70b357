#!/usr/bin/env bash
# cifar10 on a Slurm allocation: `sbatch FILE` in the project's folder, which all nodes must see.
# A job that runs out of time saves its run, is queued again and goes on where it stood.
#SBATCH --job-name=autosnn-cifar10
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Yours to decide; remove the second # of what your site asks for:
#SBATCH --time=12:00:00
##SBATCH --partition=...
##SBATCH --account=...
##SBATCH --mem=...
set -u

export python=$PWD/.venv/bin/python # of the environment that README.md makes
run=(run cifar10 --ray.gpus-per-worker 1 --run-dir runs/cifar10 --ray.num-workers 4)
address=$(hostname -I | cut -d ' ' -f 1) # where the other nodes reach this one; choose if it has several

# Of this job alone, so that nobody on its nodes gets in or in its way; all nodes must see the token.
export port=$((20000 + SLURM_JOB_ID % 4000 * 3))
own=$HOME/.autosnn/job-$SLURM_JOB_ID
trap 'rm -rf "$own"' EXIT
(umask 077 && mkdir -p "$own" && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$own/token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$own/token RAY_enable_metrics_collection=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # a job ends as a whole: nothing to hand over

# Keeps Ray running on a node; `ray start --block` ends where the node was cut off for a minute.
keep_ray() { # OPTION...
  temporary=/tmp/ray-$SLURM_JOB_ID-$SLURMD_NODENAME
  trap 'exit 0' TERM
  trap 'rm -rf "$temporary"' EXIT
  (umask 077 && mkdir -p "$temporary")
  while true; do
    "$python" -m ray.scripts.scripts start "$@" --block --temp-dir="$temporary/r" --disable-usage-stats \
      --num-cpus="$SLURM_CPUS_PER_TASK" --min-worker-port=0 --max-worker-port=0 \
      --dashboard-agent-listen-port=$((port + 2))
    sleep 5
  done
}
export -f keep_ray
for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  options=(--address="$address:$port")
  if [[ $node == "$SLURMD_NODENAME" ]]; then
    options=(--head --port="$port" --ray-client-server-port=$((port + 1)) --include-dashboard=false)
  fi
  srun --quiet --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$node" \
    --output="%x-%j-$node.log" --open-mode=append bash -c 'keep_ray "$@"' keep_ray "${options[@]}" &
done

# The driver. Slurm sends USR1 before the time is up; the driver then saves and ends with status 75.
(
  for _ in {1..180}; do
    if (: <>"/dev/tcp/$address/$port") 2>/dev/null; then break; fi
    sleep 1
  done
  exec "$python" launch.py "${run[@]}" --ray.address "$address:$port"
) &
driver=$!
trap 'kill -USR1 "$driver"' USR1
trap 'cancelled=yes' TERM
while kill -0 "$driver" 2>/dev/null; do wait "$driver"; done # a signal ends `wait`, but not the driver
wait "$driver"
status=$?

# Queued again, unless somebody cancelled it; 138 is a driver that USR1 met before it could listen.
rm -rf "$own" # here too, as `scontrol requeue` kills this script
if ((status == 75 || status == 138)) && [[ -z ${cancelled-} ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status" # with the script Slurm ends Ray on every node
