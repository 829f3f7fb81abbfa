// RpcTable: the one table from path to handler. Built at start, immutable afterwards, read by every I/O thread.
using System;
using System.Collections.Frozen;
using System.Collections.Generic;

namespace Cairn.Net.Rpc;

/// <summary>All methods a listener serves.</summary>
public sealed class RpcTable
{
    private readonly FrozenDictionary<string, RpcMethod> _byPath;
    private readonly FrozenDictionary<string, RpcMethod>.AlternateLookup<ReadOnlySpan<char>> _byText;
    private readonly FrozenSet<string> _services;

    public RpcTable(IReadOnlyList<RpcMethod> methods)
    {
        var byPath = new Dictionary<string, RpcMethod>(methods.Count, StringComparer.Ordinal);
        var services = new HashSet<string>(StringComparer.Ordinal);
        foreach (RpcMethod method in methods)
        {
            byPath.Add(method.Path, method);
            services.Add(method.Service);
        }

        Methods = methods;
        _byPath = byPath.ToFrozenDictionary(StringComparer.Ordinal);
        _byText = _byPath.GetAlternateLookup<ReadOnlySpan<char>>();
        _services = services.ToFrozenSet(StringComparer.Ordinal);
    }

    /// <summary>Every method, served or not yet, in the order given.</summary>
    public IReadOnlyList<RpcMethod> Methods { get; }

    /// <summary>Finds a method that somebody serves; null with the text for UNIMPLEMENTED otherwise.</summary>
    public RpcMethod? Find(string path, out string whyNot)
    {
        whyNot = "";
        if (_byPath.TryGetValue(path, out RpcMethod? method) && method.IsServed)
        {
            return method;
        }

        whyNot = Explain(path);
        return null;
    }

    /// <summary>Finds a method that somebody serves by the bytes of its path. Allocates nothing.</summary>
    public RpcMethod? Find(ReadOnlySpan<byte> path)
    {
        Span<char> text = stackalloc char[128];
        if (path.Length > text.Length)
        {
            return null;
        }

        int length = System.Text.Encoding.Latin1.GetChars(path, text);
        return _byText.TryGetValue(text[..length], out RpcMethod? method) && method.IsServed ? method : null;
    }

    // The texts of grpc-go, which etcd's clients may have in their logs and tests.
    private string Explain(string path)
    {
        ReadOnlySpan<char> rest = path.AsSpan();
        if (!rest.IsEmpty && rest[0] == '/')
        {
            rest = rest[1..];
        }

        int slash = rest.LastIndexOf('/');
        if (slash < 0)
        {
            return "malformed method name: \"" + path + "\"";
        }

        string service = rest[..slash].ToString();
        string name = rest[(slash + 1)..].ToString();
        return _services.Contains(service)
            ? "unknown method " + name + " for service " + service
            : "unknown service " + service;
    }
}
