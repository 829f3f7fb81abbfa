// V2Store: the JSON inside .snap files, which is where etcd 3.5 finds its members.
//
// Layout     {"Root":NODE}; NODE = {"Path":"/..","Value":"..","Children":{name:NODE,..}}, Children null for a file.
//            /0/members/ID/raftAttributes, /0/members/ID/attributes, /0/removed_members/ID, /0/version; /1 is the
//            place of API v2 data and empty. etcd writes more (times, indexes, a watcher hub); 3.5 and 3.6 start on
//            this minimal form.
// Failure    Reading throws InvalidDataException; nothing is believed about lengths or depth.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Text.Json;

namespace Cairn.Core.Membership;

/// <summary>What a v2 store says about the cluster.</summary>
public sealed class V2StoreContents
{
    /// <summary>By id; a member without raftAttributes is kept with empty peer URLs.</summary>
    public SortedDictionary<ulong, ClusterMember> Members { get; } = [];

    public SortedSet<ulong> Removed { get; } = [];

    /// <summary>Cluster version; empty when absent.</summary>
    public string Version { get; set; } = string.Empty;

    /// <summary>True if there are keys of API v2, which no version from 3.6 on can keep.</summary>
    public bool HasUserData { get; set; }
}

/// <summary>Reads and writes the JSON of <c>.snap</c> files.</summary>
public static class V2Store
{
    private const int DepthMax = 256;

    /// <summary>Appends the minimal form.</summary>
    public static void Write(IBufferWriter<byte> output, ClusterView cluster)
    {
        var json = new GoJsonWriter(output);
        json.Raw("{\"Root\":"u8);
        Directory(json, "/");
        json.Raw("\"0\":"u8);
        Directory(json, "/0");
        json.Raw("\"members\":"u8);
        Directory(json, "/0/members");
        bool first = true;
        foreach (ClusterMember member in cluster.Members)
        {
            string path = "/0/members/" + MemberIds.ToText(member.Id);
            Separator(json, ref first);
            json.String(MemberIds.ToText(member.Id));
            json.Raw(":"u8);
            Directory(json, path);
            if (member.Name.Length > 0 || member.ClientUrls.Count > 0)
            {
                json.Raw("\"attributes\":"u8);
                File(json, path + "/attributes", member.AttributesToJson());
                json.Raw(","u8);
            }

            json.Raw("\"raftAttributes\":"u8);
            File(json, path + "/raftAttributes", member.RaftAttributesToJson());
            json.Raw("}}"u8);
        }

        json.Raw("}},\"removed_members\":"u8);
        Directory(json, "/0/removed_members");
        first = true;
        foreach (ulong id in cluster.Removed)
        {
            string text = MemberIds.ToText(id);
            Separator(json, ref first);
            json.String(text);
            json.Raw(":"u8);
            File(json, "/0/removed_members/" + text, default);
        }

        json.Raw("}}"u8);
        if (cluster.Version.Length > 0)
        {
            json.Raw(",\"version\":"u8);
            File(json, "/0/version", Encoding.UTF8.GetBytes(cluster.Version));
        }

        json.Raw("}},\"1\":"u8);
        Directory(json, "/1");
        json.Raw("}}}}}"u8);
    }

    /// <summary>Reads either form.</summary>
    /// <exception cref="InvalidDataException">Not JSON, or not a v2 store.</exception>
    public static V2StoreContents Read(ReadOnlySpan<byte> json)
    {
        var contents = new V2StoreContents();
        try
        {
            var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = DepthMax });
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            {
                throw new JsonException("an object was expected");
            }

            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                bool isRoot = reader.ValueTextEquals("Root"u8);
                reader.Read();
                if (isRoot && reader.TokenType == JsonTokenType.StartObject)
                {
                    ReadNode(ref reader, string.Empty, contents);
                }
                else
                {
                    reader.Skip();
                }
            }

            while (reader.Read())
            {
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"snapshot data is not the JSON of a v2 store: {e.Message}", e);
        }

        return contents;
    }

    private static void Separator(GoJsonWriter json, ref bool first)
    {
        if (!first)
        {
            json.Raw(","u8);
        }

        first = false;
    }

    private static void Directory(GoJsonWriter json, string path)
    {
        json.Raw("{\"Path\":"u8);
        json.String(path);
        json.Raw(",\"Value\":\"\",\"Children\":{"u8);
    }

    private static void File(GoJsonWriter json, string path, ReadOnlySpan<byte> value)
    {
        json.Raw("{\"Path\":"u8);
        json.String(path);
        json.Raw(",\"Value\":"u8);
        json.String(value);
        json.Raw(",\"Children\":null}"u8);
    }

    /// <summary>Reads one node; the reader is on its opening brace. The path is made of the children's names.</summary>
    private static void ReadNode(ref Utf8JsonReader reader, string path, V2StoreContents contents)
    {
        string value = string.Empty;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("Value"u8))
            {
                reader.Read();
                value = reader.GetString() ?? string.Empty;
            }
            else if (reader.ValueTextEquals("Children"u8))
            {
                reader.Read();
                if (reader.TokenType == JsonTokenType.StartObject)
                {
                    ReadChildren(ref reader, path, contents);
                }
                else
                {
                    reader.Skip();
                }
            }
            else
            {
                reader.Skip();
            }
        }

        TakeNode(path, value, contents);
    }

    private static void ReadChildren(ref Utf8JsonReader reader, string path, V2StoreContents contents)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string childPath = path + "/" + reader.GetString();
            reader.Read();
            bool isUserData = childPath.StartsWith("/1/", StringComparison.Ordinal);
            contents.HasUserData |= isUserData;

            // Data of API v2 is skipped without being held.
            if (reader.TokenType == JsonTokenType.StartObject && !isUserData)
            {
                ReadNode(ref reader, childPath, contents);
            }
            else
            {
                reader.Skip();
            }
        }
    }

    private static void TakeNode(string path, string value, V2StoreContents contents)
    {
        const string MembersPrefix = "/0/members/";
        const string RemovedPrefix = "/0/removed_members/";
        if (path == "/0/version")
        {
            contents.Version = value;
        }
        else if (path.StartsWith(RemovedPrefix, StringComparison.Ordinal))
        {
            contents.Removed.Add(ParseId(path.AsSpan(RemovedPrefix.Length), path));
        }
        else if (path.StartsWith(MembersPrefix, StringComparison.Ordinal))
        {
            ReadOnlySpan<char> rest = path.AsSpan(MembersPrefix.Length);
            int slash = rest.IndexOf('/');
            ulong id = ParseId(slash < 0 ? rest : rest[..slash], path);
            ClusterMember member = contents.Members.TryGetValue(id, out ClusterMember? known)
                ? known
                : new ClusterMember { Id = id };
            if (slash >= 0)
            {
                ClusterMember part = ClusterMember.ParseJson(Encoding.UTF8.GetBytes(value));
                member = rest[(slash + 1)..] switch
                {
                    "attributes" => member with { Name = part.Name, ClientUrls = part.ClientUrls },
                    "raftAttributes" => member with { PeerUrls = part.PeerUrls, IsLearner = part.IsLearner },
                    _ => throw new InvalidDataException($"snapshot data holds {path}, which no etcd writes"),
                };
            }

            contents.Members[id] = member;
        }
    }

    private static ulong ParseId(ReadOnlySpan<char> text, string path) => MemberIds.TryParse(text, out ulong id)
        ? id
        : throw new InvalidDataException($"snapshot data holds {path}, which does not name a member id");
}
