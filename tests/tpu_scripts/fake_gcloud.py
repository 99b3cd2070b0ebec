#!/usr/bin/env -S python3 -I -S
"""Stands in for gcloud: one project with at most one TPU, kept in the folder $AZR_FAKE.

Knows the commands and flags that the scripts may use (names and messages as in release 528 of the
SDK) and refuses others, as gcloud does. Workers are folders: what goes to them by ssh is run there,
by a real shell. What lies in $AZR_FAKE:

  calls            one line per call, its arguments separated by U+001F
  world            lines "queue STATE TYPE", "node STATE WORKERS", "bucket"; what lacks is not there
  faults           lines "COMMAND FAULT": the next such call fails so, and the line is used up; with
                   FAULT! it stays; "ok" lets one pass; "half-FAULT" does its work, then fails
  states           one line per look at the queued resource: what it has become by then; "=": no
                   change; "node STATE": the node's state; "end": the file `end` appears
  objects          addresses in the bucket, one a line
  workers/N/       the home of worker N
"""

import fcntl
import os
import signal
import sys

# Started hundreds of times: json and shutil would take longer than all the rest.
FOLDER = os.environ["AZR_FAKE"]
COMMON = {"--project", "--zone", "--quiet"}
SSH = COMMON | {"--worker", "--internal-ip"}
FLAGS = {
    "queued-resources create": COMMON
    | {"--node-id", "--accelerator-type", "--runtime-version", "--spot", "--reserved"}
    | {"--network", "--internal-ips", "--service-account"},
    "queued-resources describe": COMMON | {"--format"},
    "queued-resources delete": COMMON | {"--force"},
    "tpu-vm describe": COMMON | {"--format"},
    "tpu-vm delete": COMMON,
    "tpu-vm ssh": SSH | {"--ssh-flag", "--command"},
    "tpu-vm scp": SSH | {"--scp-flag"},
    "buckets describe": {"--project", "--format"},
    "buckets create": {
        *("--project", "--location", "--uniform-bucket-level-access", "--soft-delete-duration"),
    },
    "storage ls": set(),
    "storage cp": {"--quiet"},
    "storage rsync": {
        *("--recursive", "--exclude", "--delete-unmatched-destination-objects", "--quiet"),
    },
    "services enable": {"--project"},
    "auth login": set(),
}
FAULTS = {
    "quota": (
        1,
        "RESOURCE_EXHAUSTED: Quota limit 'TPUV4sPreemptiblePodPerProjectPerZoneForTPUAPI' has been"
        " exceeded. Limit: 8 in zone us-central2-b.",
    ),
    "denied": (1, "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied"),
    "unavailable": (1, "UNAVAILABLE: The service is currently unavailable."),
    # What a name may hold, and what others print into the same stream.
    "words": (1, "INTERNAL: in bucket does-not-have-404 'NOT_FOUND' was not found for Quota"),
    "drop": (255, "[/usr/bin/ssh] exited with return code [255]."),
}
IMAGES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}


class Failure(Exception):
    """Ends the call: exit code and message."""


def path(*names):
    return os.path.join(FOLDER, *names)


def read(name):
    try:
        with open(path(name)) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def write(name, lines):
    with open(path(name), "w") as file:
        file.writelines(line + "\n" for line in lines)


def fault_for(command):
    """Uses up the first fault that waits for `command`; one that ends in ! stays."""
    lines = read("faults")
    for index, line in enumerate(lines):
        wanted, fault = line.rsplit(" ", 1)
        if wanted == command:
            if not fault.endswith("!"):
                write("faults", lines[:index] + lines[index + 1 :])
            return fault.rstrip("!")
    return None


# --- the TPU -------------------------------------------------------------------------------------


def hosts(accelerator):
    family, _, size = accelerator.rpartition("-")
    return max(1, int(size) // (8 if family in ("v4", "v5p") else 4))


def become(world, state):
    """The queued resource is in another state now, and its node with it."""
    world["queue"][0] = state
    if state == "ACTIVE" and not world["node"]:
        world["node"] = ["READY", str(hosts(world["queue"][1]))]
        for worker in range(int(world["node"][1])):
            os.makedirs(path("workers", str(worker)))
    if state in ("SUSPENDED", "FAILED"):
        remove_node(world)


def remove_node(world):
    world["node"] = None
    if os.path.isdir(path("workers")):
        for worker in os.listdir(path("workers")):
            kill(path("workers", worker, "azr", "pid"))
        import shutil

        shutil.rmtree(path("workers"))


def kill(pid_file):
    try:
        with open(pid_file) as file:
            os.killpg(int(file.read().split()[0]), signal.SIGKILL)
    except (FileNotFoundError, IndexError, ProcessLookupError):
        pass


def queue_create(world, name, flags):
    if world["queue"]:
        raise Failure(1, f"ALREADY_EXISTS: Resource '{name}' already exists")
    if world["node"]:
        raise Failure(1, f"ALREADY_EXISTS: node '{name}' already exists")
    accelerator = flags["--accelerator-type"]
    if IMAGES[accelerator.rpartition("-")[0]] != flags["--runtime-version"]:
        raise Failure(1, "INVALID_ARGUMENT: runtime version does not fit the accelerator")
    world["queue"] = ["ACCEPTED", accelerator]
    if not read("states"):
        become(world, "ACTIVE")


def queue_describe(world, name, flags):
    states = read("states")
    if world["queue"] and states:
        write("states", states[1:])
        if states[0].startswith("node "):
            world["node"][0] = states[0].split()[1]
        elif states[0] == "end":
            open(path("end"), "w").close()
        elif states[0] != "=":
            become(world, states[0])
    if not world["queue"]:
        raise Failure(1, f"NOT_FOUND: Resource '{name}' was not found")
    if "failedData" in flags["--format"]:
        print("no capacity in this zone" if world["queue"][0] == "FAILED" else "")
    else:
        print(*world["queue"], sep="\t")


def queue_delete(world, name, flags):
    if not world["queue"]:
        raise Failure(1, f"NOT_FOUND: Resource '{name}' was not found")
    if world["node"] and "--force" not in flags:
        raise Failure(1, "FAILED_PRECONDITION: the queued resource has nodes")
    world["queue"] = None
    remove_node(world)


def node_describe(world, name, flags):
    if not world["node"]:
        raise Failure(1, f"NOT_FOUND: Resource '{name}' was not found")
    print(*world["node"], sep="\t")


def node_delete(world, name, flags):
    node_describe(world, name, flags)
    remove_node(world)


# --- its workers ---------------------------------------------------------------------------------


def chosen(world, flags):
    if not world["node"] or world["node"][0] != "READY":
        raise Failure(255, "[/usr/bin/ssh] exited with return code [255].")
    worker = flags.get("--worker", "0")
    return range(int(world["node"][1])) if worker == "all" else [int(worker)]


def ssh(world, name, flags, drop):
    """Runs the command on each worker; where the connection drops, on the first of them only."""
    code = 0
    for worker in chosen(world, flags):
        if drop and worker:
            raise Failure(*FAULTS["drop"])
        home = path("workers", str(worker))
        environment = {**os.environ, "HOME": home, "HOSTNAME": f"host-{worker}"}
        environment.pop("ROOT", None)
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            os.closerange(3, 64)  # ssh hands on no other files
            os.chdir(home)
            os.execvpe("bash", ["bash", "-c", flags["--command"]], environment)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or code
    if drop:
        raise Failure(*FAULTS["drop"])
    if code:
        print("##### Command execution on a worker failed. Continuing.", file=sys.stderr)
        sys.exit(code)


def scp(world, names, flags, drop):
    source, (_, _, target) = names[0], names[1].partition(":")
    for worker in chosen(world, flags):
        with open(source, "rb") as file:
            data = file.read()
        with open(path("workers", str(worker), target), "wb") as file:
            file.write(data)
        if drop:
            raise Failure(*FAULTS["drop"])


# --- the bucket ----------------------------------------------------------------------------------


def matches(name, pattern):
    parts, wanted = name.split("/"), pattern.split("/")
    if len(parts) != len(wanted):
        return False
    return all(w in ("*", p) for p, w in zip(parts, wanted, strict=True))


def storage(world, command, names):
    if command == "buckets describe" and world["bucket"] is None:
        raise Failure(1, f"{names[0]} not found: 404.")
    if command == "buckets create":
        world["bucket"] = []
    elif command == "storage ls":
        found = [line for line in read("objects") if matches(line, names[0])]
        if not found:
            raise Failure(1, "One or more URLs matched no objects.")
        print("\n".join(found))
    elif command in ("storage cp", "storage rsync"):
        if names[1].startswith("gs://"):
            if not os.path.exists(names[0]):
                raise Failure(1, f"{names[0]} not found")
            if os.path.isdir(names[0]) != (command == "storage rsync"):
                raise Failure(1, f"Omitting prefix '{names[0]}'. (Use --recursive)")
            write("objects", [*read("objects"), names[1]])
        else:
            os.makedirs(names[1], exist_ok=True)


def call(arguments, world):
    words = [word for word in arguments if not word.startswith("--")]
    if words[:2] == ["compute", "tpus"]:
        words = words[2:]
    elif words[:2] == ["storage", "buckets"]:
        words = words[1:]
    command, names = " ".join(words[:2]), words[2:]
    if command not in FLAGS:
        raise Failure(2, f"Invalid choice: '{command}'.")
    flags = {}
    for word in arguments:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            flags[flag] = value
    unknown = set(flags) - FLAGS[command]
    if unknown:
        raise Failure(2, f"unrecognized arguments: {sorted(unknown)}")
    fault = fault_for(command)
    if fault == "ok":
        fault = None
    if command == "tpu-vm ssh":
        return ssh(world, names[0], flags, fault == "drop")
    if command == "tpu-vm scp":
        if fault == "words":
            print("scp: azr.tar.gz: destination does not have space, NOT_FOUND", file=sys.stderr)
            sys.exit(1)
        return scp(world, names, flags, fault == "drop")
    half = fault and fault.startswith("half-")  # it is done, but the answer is an error
    if fault and not half:
        raise Failure(*FAULTS[fault])
    tpu = {
        "queued-resources create": queue_create,
        "queued-resources describe": queue_describe,
        "queued-resources delete": queue_delete,
        "tpu-vm describe": node_describe,
        "tpu-vm delete": node_delete,
    }
    if command in tpu:
        tpu[command](world, names[0], flags)
    else:
        storage(world, command, names)
    if half:
        raise Failure(*FAULTS[fault.removeprefix("half-")])
    return None


def main():
    with open(path("calls"), "a") as file:
        file.write("\x1f".join(sys.argv[1:]) + "\n")
    with open(path("world"), "a+") as file:
        # Not held while a worker works: it may call gcloud itself.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        world = dict.fromkeys(("queue", "node", "bucket"))
        for line in file.read().splitlines():
            name, *values = line.split()
            world[name] = values
        if "ssh" in sys.argv:
            fcntl.flock(file, fcntl.LOCK_UN)
        try:
            call(sys.argv[1:], world)
        except Failure as failure:
            code, message = failure.args
            print(f"ERROR: (gcloud) {message}", file=sys.stderr)
            sys.exit(code)
        finally:
            if "ssh" not in sys.argv:
                file.seek(0)
                file.truncate()
                for name, values in world.items():
                    if values is not None:
                        file.write(" ".join([name, *values]) + "\n")


if __name__ == "__main__":
    main()
