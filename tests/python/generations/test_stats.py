"""What a container uses: as containerd counts it today, asked of the keeper, and as it was told in 2015, asked of thecad."""

import subprocess
import unittest

from host import TODAY, Fifo, WithSandbox, config, root
from theca_client import eventually, oci_spec, pb, task_stats, unpack

MIB = 1 << 20


class Counters(WithSandbox):
    def run_(self, script, rootfs=(), **resources):
        """A container that has done what `script` says, and stays."""
        id, out = self.name(), Fifo(self)
        spec = config("sh", "-c", f"{script}\necho done; exec sleep 1000", sandbox=self.sandbox, resources=resources)
        spec["root"]["readonly"] = not rootfs
        container = pb.containers.Container(id=id, spec=oci_spec(spec))
        self.theca.containers.Create(pb.containers.CreateContainerRequest(container=container))
        self.theca.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id, stdout=out.path, rootfs=rootfs))
        self.theca.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        out.holds("done\n", timeout=60)
        return id

    def today(self, id):
        return unpack(task_stats(self.keeper(), id), pb.cgroups.Metrics)

    def in_2015(self, id):
        samples = self.theca.api.GetStats(pb.api.StatsRequest(id=id))
        self.addCleanup(samples.cancel)
        return next(samples).cgroup_stats

    def disk(self):
        """An empty disk."""
        path = self.folder() / "disk.ext4"
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path, "64M"], check=True)
        return str(path)

    def test_processes_processor_time_and_memory_are_counted_and_their_limits_told(self):
        resources = {
            "pids": {"limit": 50},
            "cpu": {"quota": 20_000, "period": 100_000},
            "memory": {"limit": 64 * MIB},
        }
        id = self.run_("while :; do :; done &", **resources)
        # It wants all of a processor and gets a fifth.
        eventually(lambda: self.today(id).cpu.nr_throttled > 2)
        now = self.today(id)
        self.assertEqual((now.pids.current, now.pids.limit), (2, 50))
        cpu, memory = now.cpu, now.memory
        self.assertGreaterEqual(cpu.nr_periods, cpu.nr_throttled)
        for name in ["usage_usec", "user_usec", "throttled_usec"]:
            self.assertGreater(getattr(cpu, name), 0, name)
        self.assertEqual((memory.usage_limit, memory.swap_usage), (64 * MIB, 0))
        for name in ["usage", "anon", "kernel_stack", "slab", "pgfault"]:
            self.assertGreater(getattr(memory, name), 0, name)
        self.assertLess(memory.anon + memory.kernel_stack + memory.slab, memory.usage_limit)
        self.assertEqual(memory.slab, memory.slab_reclaimable + memory.slab_unreclaimable)
        self.assertGreaterEqual(memory.max_usage, memory.usage)
        self.assertGreater(cpu.psi.some.total, 0)
        for psi in [memory.psi, now.io.psi]:
            self.assertTrue(psi.HasField("some") and psi.HasField("full"))

        then = self.in_2015(id)
        usage, throttling = then.cpu_stats.cpu_usage, then.cpu_stats.throttling_data
        self.assertGreaterEqual(usage.total_usage, 1000 * cpu.usage_usec)
        self.assertGreaterEqual(usage.usage_in_usermode, 1000 * cpu.user_usec)
        self.assertGreaterEqual(throttling.throttled_time, 1000 * cpu.throttled_usec)
        self.assertGreater(then.memory_stats.usage.usage, 0)
        self.assertGreaterEqual(then.memory_stats.usage.max_usage, memory.max_usage)
        stats = then.memory_stats.stats
        self.assertGreater(stats["rss"], 0)
        self.assertGreaterEqual(stats["pgfault"], memory.pgfault)
        # All of it, more than these two parts: page tables are another.
        self.assertGreater(then.memory_stats.kernel_usage.usage, memory.kernel_stack + memory.slab)
        self.assertEqual(then.hugetlb_stats["2MB"], pb.api.HugetlbStats())

    def test_what_it_writes_to_a_disk_and_the_memory_that_this_took_are_counted(self):
        mounts = [{"type": "bind", "source": str(root())}, {"type": "ext4", "source": self.disk()}]
        # More than it may have of memory: some is taken back while it writes.
        script = "dd if=/dev/zero of=/written bs=64k count=320 conv=fsync; sync"
        id = self.run_(script, rootfs=mounts, memory={"limit": 16 * MIB})
        now = self.today(id)
        written = [device for device in now.io.usage if device.wbytes]
        self.assertEqual(len(written), 1)
        [disk] = written
        self.assertGreaterEqual(disk.wbytes, 20 * MIB)
        self.assertGreater(disk.wios, 0)
        for name in ["file", "pgscan", "pgsteal"]:
            self.assertGreater(getattr(now.memory, name), 0, name)
        self.assertGreater(now.memory_events.max, 0)
        self.assertEqual(now.memory_events.oom_kill, 0)

        then = self.in_2015(id)
        self.assertGreaterEqual(then.memory_stats.usage.failcnt, now.memory_events.max)
        self.assertGreater(then.memory_stats.cache, 0)
        blkio = then.blkio_stats
        told = lambda entries: {(entry.major, entry.minor, entry.op): entry.value for entry in entries}
        at = (disk.major, disk.minor)
        self.assertGreaterEqual(told(blkio.io_service_bytes_recursive)[(*at, "Write")], disk.wbytes)
        self.assertGreaterEqual(told(blkio.io_serviced_recursive)[(*at, "Write")], disk.wios)
        self.assertGreaterEqual(told(blkio.sectors_recursive)[(*at, "")], disk.wbytes // 512)

        if TODAY:
            request = pb.sandbox.ControllerMetricsRequest(sandbox_id=self.sandbox)
            of_all = unpack(self.theca.controller.Metrics(request).metrics.data, pb.cgroups.Metrics)
            self.assertGreaterEqual(sum(device.wbytes for device in of_all.io.usage), disk.wbytes)


if __name__ == "__main__":
    unittest.main()
