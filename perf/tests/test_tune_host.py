"""scripts/tune-host on hosts made of files: nothing of the real one is touched."""

import importlib.machinery
import importlib.util
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from context import ROOT

TOOL = ROOT / "scripts" / "tune-host"
STATE = "var/lib/opencall-sfu/tune-host.json"


def module():
    """The script as a module, for what only the kernel can do: to refuse."""
    loader = importlib.machinery.SourceFileLoader("tune_host", str(TOOL))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader("tune_host", loader))
    loader.exec_module(made)
    return made


class Host(unittest.TestCase):
    """Eight CPUs, a network card with four queues, GRUB."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.put({
            "sys/devices/system/cpu/online": "0-7",
            "sys/devices/system/cpu/isolated": "",
            "sys/devices/virtual/workqueue/cpumask": "ff",
            "proc/irq/default_smp_affinity": "ff",
            "proc/sys/net/core/rmem_max": "212992",
            "proc/sys/net/core/wmem_max": "16777216",
            "proc/sys/net/core/netdev_max_backlog": "1000",
            "proc/sys/net/core/busy_poll": "0",
            "proc/sys/net/core/rps_sock_flow_entries": "0",
            "proc/77/comm": "irqbalance",
            "sys/class/net/lo/operstate": "unknown",
            "sys/class/net/eth0/operstate": "up",
            "sys/class/net/eth0/napi_defer_hard_irqs": "0",
            "sys/class/net/eth0/gro_flush_timeout": "0",
            "sys/class/net/eth1/operstate": "down",
            "sys/class/net/eth1/device/vendor": "0x8086",
            "etc/default/grub.d/other.cfg": "",
        })
        lines = ["           CPU0  CPU1"]
        names = ["eth0", *(f"eth0-TxRx-{queue}" for queue in range(4))]
        for irq, name in zip(range(98, 103), names):
            lines.append(f" {irq}:  5  7  PCI-MSI 524288-edge  {name}")
            self.put({f"sys/class/net/eth0/device/msi_irqs/{irq}": "msix",
                      f"proc/irq/{irq}/smp_affinity_list": "0-7"})
        # The first one reports the link; it carries no packets.
        lines[1] = lines[1].replace("eth0", "eth0-async")
        self.put({"proc/interrupts": "\n".join(lines)})
        for queue in range(4):
            self.put({f"sys/class/net/eth0/queues/rx-{queue}/rps_cpus": "00000000,00000000",
                      f"sys/class/net/eth0/queues/rx-{queue}/rps_flow_cnt": "0"})
        for cpu in range(8):
            base = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
            self.put({f"{base}/scaling_governor": "powersave",
                      f"{base}/scaling_available_governors": "performance powersave"})

    def put(self, files):
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    def at(self, name):
        return (self.root / name).read_text().strip()

    def everything(self):
        return {str(path.relative_to(self.root)): path.read_text()
                for path in sorted(self.root.rglob("*")) if path.is_file()}

    def tune(self, *words, status=0):
        done = subprocess.run([TOOL, "--root", self.root, *words], capture_output=True, text=True,
                              timeout=300, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def irqs(self):
        return [self.at(f"proc/irq/{irq}/smp_affinity_list") for irq in range(98, 103)]

    def test_without_a_word_it_shows_and_changes_nothing(self):
        before = self.everything()
        text = self.tune("--workers", "4")
        self.assertEqual(self.everything(), before)
        self.assertIn("data cores on CPUs 4-7, the rest on 0-3; interfaces: eth0\n", text)
        self.assertRegex(text, r"change  net.core.rmem_max +212992 +>= 8388608 +else bursts")
        self.assertRegex(text, r"ok      net.core.wmem_max +16777216 +>= 8388608 ")
        self.assertRegex(text, r"change  governor of CPU 4-7 +powersave +performance ")
        self.assertIn("by hand: irqbalance runs", text)
        self.assertIn("sudo ethtool -N eth0 flow-type udp4 dst-port 40003 action 3", text)
        self.assertIn("isolcpus=domain,managed_irq,4-7 nohz_full=4-7 rcu_nocbs=4-7", text)
        self.assertIn("\nnothing was changed; --apply does it, --revert takes it back\n", text)

    def test_applied_each_queue_has_its_core(self):
        self.tune("--workers", "4", "--apply")
        # The first data core is on the last CPU.
        self.assertEqual(self.irqs(), ["0-7", "7", "6", "5", "4"])
        self.assertEqual(self.at("proc/sys/net/core/rmem_max"), "8388608")
        self.assertEqual(self.at("proc/sys/net/core/wmem_max"), "16777216")
        self.assertEqual(self.at("sys/class/net/eth0/queues/rx-2/rps_cpus"), "00000000,00000000")
        self.assertEqual(self.at("sys/class/net/eth0/queues/rx-2/rps_flow_cnt"), "8192")
        self.assertEqual(self.at("sys/devices/virtual/workqueue/cpumask"), "f")
        self.assertEqual(self.at("sys/devices/system/cpu/cpu7/cpufreq/scaling_governor"),
                         "performance")
        self.assertEqual(self.at("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"),
                         "powersave")
        self.assertFalse((self.root / "etc/default/grub.d/opencall-sfu.cfg").exists())

    def test_with_fewer_queues_than_cores_the_kernel_spreads(self):
        self.tune("--apply")
        self.assertEqual(self.at("sys/class/net/eth0/queues/rx-0/rps_cpus"), "fe")

    def test_what_was_applied_is_taken_back_exactly(self):
        before = self.everything()
        self.tune("--workers", "4", "--isolate", "--apply")
        self.assertIn("isolcpus=domain,managed_irq,4-7",
                      self.at("etc/default/grub.d/opencall-sfu.cfg"))
        text = self.tune("--revert")
        self.assertIn("/proc/sys/net/core/rmem_max: 212992\n", text)
        self.assertIn("opencall-sfu.cfg: removed\n", text)
        self.assertEqual(self.everything(), before)
        self.assertEqual(self.tune("--revert"), "0 written back, 0 refused\n")

    def test_to_apply_twice_is_to_apply_once(self):
        before = self.everything()
        self.tune("--workers", "4", "--apply")
        once = self.everything()
        self.assertIn("\n0 set, 0 refused", self.tune("--workers", "4", "--apply"))
        self.assertEqual(self.everything(), once)
        self.assertNotIn("change  ", self.tune("--workers", "4"))
        # Other data cores: the oldest values are the ones to come back.
        self.tune("--workers", "2", "--apply")
        self.tune("--revert")
        self.assertEqual(self.everything(), before)

    def test_a_device_on_a_virtio_bus_is_found_by_its_bus(self):
        bus = "sys/devices/pci/0000:00:03.0"
        self.put({"sys/class/net/eth2/operstate": "up", f"{bus}/virtio2/vendor": "x",
                  f"{bus}/msi_irqs/38": "msix", f"{bus}/msi_irqs/39": "msix",
                  "proc/irq/38/smp_affinity_list": "0-7", "proc/irq/39/smp_affinity_list": "0-7",
                  "proc/interrupts": " 38: 1 PCI virtio2-input.0\n 39: 1 PCI virtio2-output.0"})
        (self.root / "sys/class/net/eth2/device").symlink_to(self.root / bus / "virtio2")
        self.tune("--interface", "eth2", "--apply")
        self.assertEqual(self.at("proc/irq/38/smp_affinity_list"), "7")
        self.assertEqual(self.at("proc/irq/39/smp_affinity_list"), "0-7")

    def test_isolated_cores_are_told_to_be_given_to_the_server(self):
        self.put({"sys/devices/system/cpu/isolated": "4-7"})
        self.assertIn("start the server with taskset -c 0-7", self.tune("--workers", "4"))

    def test_a_host_without_the_files_wants_nothing(self):
        with tempfile.TemporaryDirectory() as empty:
            self.root = Path(empty)
            text = self.tune()
        self.assertIn("data cores on CPUs 0, the rest on none; interfaces: none", text)
        self.assertNotIn("change  ", text)

    def test_errors_are_one_line(self):
        self.assertEqual(self.tune("--workers", "9", status=1),
                         "error: --workers 9: this host has 8 CPUs\n")
        self.assertEqual(self.tune("--interface", "eth7", status=1),
                         "error: no interface eth7; there are: eth0, eth1, lo\n")

    def test_what_the_kernel_refuses_is_said_and_not_kept(self):
        tool, refused = module(), "proc/irq/99/smp_affinity_list"
        really = tool.write
        tool.write = lambda host, name, text: name != refused and really(host, name, text)
        host = tool.Host(self.root, 4)
        changed, refusals = tool.apply(host, host.settings())
        self.assertEqual([setting.path for setting in refusals], [refused])
        self.assertGreater(len(changed), 5)
        self.assertNotIn(refused, json.loads(self.at(STATE)))
        self.assertIn("refused", [row[0] for row in tool.rows(host, host.settings(), refusals)])
        # What cannot be written back stays kept, for another try.
        tool.write = lambda host, name, text: "rmem" not in name and really(host, name, text)
        tool.revert(host)
        self.assertEqual(json.loads(self.at(STATE)), {"proc/sys/net/core/rmem_max": "212992"})


class Forms(unittest.TestCase):
    """Masks and lists as the kernel writes them."""

    def test_masks_and_lists(self):
        tool = module()
        self.assertEqual(tool.mask_of([0, 1, 5]), "23")
        self.assertEqual(tool.mask_of([32, 35]), "9,00000000")
        self.assertEqual(tool.mask_of([]), "0")
        self.assertEqual(tool.cpus_of("0-2,5"), [0, 1, 2, 5])
        self.assertEqual(tool.list_of([5, 0, 2, 1]), "0-2,5")

    def test_interrupts_of_queues_are_told_from_others(self):
        tool = module()
        queues = {"eth0-TxRx-3": 3, "i40e-ens1f0-TxRx-12": 12, "virtio1-input.0": 0, "eth0": 0,
                  "mlx5_comp2@pci:0000:5e:00.0": 2, "eth0-Tx-Rx-1": 1, "eth0-rx-5": 5}
        for action, queue in queues.items():
            found = tool.QUEUE_IRQ.search(action)
            self.assertTrue(found and not tool.NOT_QUEUE_IRQ.search(action), action)
            self.assertEqual(int(found["queue"]), queue, action)
        for action in ["eth0-tx-1", "virtio1-output.0", "virtio1-config", "i40e-eth0-async-0",
                       "ena-mgmnt@pci:0000:00:05.0", "eth0-fdir-TxRx-0", "mlx5_async0@pci:0:1"]:
            found = tool.QUEUE_IRQ.search(action)
            self.assertFalse(found and not tool.NOT_QUEUE_IRQ.search(action), action)


if __name__ == "__main__":
    unittest.main()
