// TreeCorruptException: the one way in which bytes of a tree file are refused, at open or at first read.
using System;
using System.Globalization;

namespace Cairn.Btree;

/// <summary>A tree file holds something that no correct writer wrote. The file must not be used further.</summary>
public sealed class TreeCorruptException : Exception
{
    internal TreeCorruptException(string path, ulong page, long offset, string what, string expected, string found)
        : base(string.Create(
            CultureInfo.InvariantCulture,
            $"{path}: page {page}, file offset {offset}: {what}: expected {expected}, found {found}; the file is damaged, restore this member from a snapshot or its peers"))
    {
        Path = path;
        Page = page;
        Offset = offset;
        What = what;
        Expected = expected;
        Found = found;
    }

    /// <summary>The damaged file.</summary>
    public string Path { get; }

    /// <summary>Number of the damaged page.</summary>
    public ulong Page { get; }

    /// <summary>Byte offset in the file at which the damage was seen.</summary>
    public long Offset { get; }

    /// <summary>The field or rule that does not hold.</summary>
    public string What { get; }

    public string Expected { get; }

    public string Found { get; }
}

/// <summary>Another process holds the lock of the tree file.</summary>
public sealed class TreeLockedException : Exception
{
    internal TreeLockedException(string path)
        : base($"{path}: another process holds the lock of this file; stop it first")
    {
        Path = path;
    }

    public string Path { get; }
}
