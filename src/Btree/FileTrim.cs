// FileTrim: by how much the file grows and when cutting it is worth a call. Pure.
using System;

namespace Cairn.Btree;

internal static class FileTrim
{
    private const long SmallestStep = 64 << 10;
    private const long LargestStep = 16 << 20;

    /// <summary>Growth step for a file of this size: doubling at first, 16 MiB later (as etcd's files do).</summary>
    public static long Step(long bytes) => Math.Clamp(bytes, SmallestStep, LargestStep);

    /// <summary>More than one growth step lies unused: then cutting cannot alternate with growing.</summary>
    public static bool IsWorthwhile(long fileBytes, long neededBytes) => fileBytes > neededBytes + Step(neededBytes);
}
