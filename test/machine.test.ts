import t from "tap";
import { cpuQuota, openFilesMax, usableCores, type ReadText } from "../src/platform/machine.ts";

/** A machine whose files are these. */
const files = (contents: Record<string, string>): ReadText => (path) => contents[path];

t.test("without a cgroup there is no quota, and every core may be used", async (t) => {
  t.equal(cpuQuota(files({})), undefined);
  t.equal(usableCores(files({}), 8), 8);
});

t.test("a version 2 quota limits the cores, rounded up, to at least one", async (t) => {
  const cores = (cpuMax: string) => usableCores(files({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": cpuMax }), 8);
  t.equal(cores("max 100000\n"), 8);
  t.equal(cores("200000 100000\n"), 2);
  t.equal(cores("150000 100000\n"), 2);
  t.equal(cores("5000 100000\n"), 1);
  t.equal(cores("1600000 100000\n"), 8, "a quota of more cores than there are changes nothing");
  t.equal(cores("nonsense"), 8);
});

t.test("the tightest quota of the groups around a process counts", async (t) => {
  const read = files({
    "/proc/self/cgroup": "0::/system.slice/flux.service\n",
    "/sys/fs/cgroup/system.slice/flux.service/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
    "/sys/fs/cgroup/cpu.max": "600000 100000\n",
  });
  t.equal(cpuQuota(read), 3);
});

t.test("version 1 quotas are found, with the controller mounted under either name", async (t) => {
  const read = files({
    "/proc/self/cgroup": "5:memory:/a\n4:cpu,cpuacct:/docker/abc\n0::/\n",
    "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1\n",
    "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
  });
  t.equal(cpuQuota(read), 2.5, "in a container the path is the host's, and the own group is the mounted root");
  t.equal(usableCores(read, 8), 3);
  t.equal(cpuQuota(files({ "/proc/self/cgroup": "5:cpuset:/\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000" })), undefined);
});

t.test("the limit of open files is the soft one", async (t) => {
  const limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            20000                1048576              files     \n";
  t.equal(openFilesMax(files({ "/proc/self/limits": limits })), 20_000);
  t.equal(openFilesMax(files({ "/proc/self/limits": limits.replace("20000    ", "unlimited") })), undefined);
  t.equal(openFilesMax(files({})), undefined);
});

t.test("on this machine both are found", async (t) => {
  t.ok(usableCores() >= 1);
  t.ok((openFilesMax() ?? 0) > 0);
});
