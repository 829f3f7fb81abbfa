// TestTree: a temporary directory with one tree file in it, and what the tests do to it again and again.
using System;
using System.Diagnostics.CodeAnalysis;
using System.IO;
using System.Text;
using Cairn.Base;

namespace Cairn.Btree.Tests;

internal sealed class FatalException : Exception
{
    public FatalException(string message, Exception? cause)
        : base(message, cause)
    {
    }
}

internal sealed class ThrowingFatal : IFatal
{
    [DoesNotReturn]
    public void Stop(string message, Exception? cause = null) => throw new FatalException(message, cause);
}

internal sealed class TestTree : IDisposable
{
    public static readonly TreeOptions Fast = new() { ReserveBytes = 1L << 30, PageSize = 4096, NoSync = true };

    private readonly string _directory;

    public TestTree(TreeOptions? options = null)
    {
        _directory = Directory.CreateTempSubdirectory("cairn-btree-").FullName;
        Options = options ?? Fast;
        FilePath = Path.Combine(_directory, "db");
        Tree = Open(FilePath, Options);
    }

    public string FilePath { get; }

    public string DirectoryPath => _directory;

    public TreeOptions Options { get; set; }

    public Tree Tree { get; private set; }

    public static Tree Open(string path, TreeOptions? options = null) =>
        Tree.Open(new PosixFileSystem(), path, options ?? Fast, new ThrowingFatal());

    public static byte[] Key(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>etcd's 17-byte revision key.</summary>
    public static byte[] Revision(long main, long sub = 0)
    {
        byte[] key = new byte[17];
        System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(key, main);
        key[8] = (byte)'_';
        System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(key.AsSpan(9), sub);
        return key;
    }

    public void Reopen()
    {
        Tree.Dispose();
        Tree = Open(FilePath, Options);
    }

    /// <summary>Every page is reachable once or free once, and every rule of the format holds.</summary>
    public void ExpectSound()
    {
        TreeCheckResult result = Tree.Check(Tree.CurrentRoot, againstFreelist: true);
        Xunit.Assert.True(result.IsOk, string.Join('\n', result.Errors));
        Xunit.Assert.True(new FileInfo(FilePath).Length >= Tree.HighWaterBytes, "the file reaches the high-water mark");
    }

    public void Dispose()
    {
        Tree.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}
